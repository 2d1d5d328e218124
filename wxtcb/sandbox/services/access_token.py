"""What code in the environments may do with cloudbase_access_token."""

from __future__ import annotations

from attrs import define, field, frozen

from wxtcb.sandbox.context import Ground
from wxtcb.sandbox.errors import refuse

__all__ = ["Access", "Setting"]


@frozen
class Setting:
    """The paths that an environment may call, and how often that was set."""

    api_whitelist: tuple[str, ...] = ("/*",)
    version: int = 1


@define(eq=False)
class Access:
    """The one switch for all environments, and the setting of each; who sets must know the newest version."""

    _ground: Ground = field(repr=False)
    is_open: bool = field(init=False, default=True)
    settings: dict[str, Setting] = field(init=False, factory=dict[str, Setting])
    modified: set[str] = field(init=False, factory=set[str])

    def get(self, env: str) -> Setting:
        """Return the setting of an environment; all is allowed where none was made."""
        self._ground.need_normal(env)
        return self.settings.get(env, Setting())

    def set(self, env: str, *, is_open: bool, api_whitelist: list[str], version: int) -> None:
        """Set the switch and the paths, or refuse a version that is not the newest."""
        newest = self.get(env).version
        if version != newest:
            raise refuse(40097, f"version is {newest}")
        self.is_open = is_open
        self.settings[env] = Setting(tuple(api_whitelist), newest + 1)

    def modify(self, env: str) -> None:
        """Make an environment one that mini programs can use; made so once more it stays so."""
        self._ground.need_normal(env)
        self.modified.add(env)
