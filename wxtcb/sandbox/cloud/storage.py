"""The files of the environments."""

from __future__ import annotations

from attrs import define, field

from wxtcb.sandbox.ground import Ground

__all__ = ["Storage"]


@define(eq=False)
class Storage:
    """The files of the environments, by environment and path."""

    _ground: Ground = field(repr=False)
    _files: dict[tuple[str, str], bytes] = field(init=False, repr=False, factory=dict[tuple[str, str], bytes])

    def write(self, env: str, path: str, data: bytes) -> str:
        """Put a file there as the platform itself does, and return a URL that it can be downloaded from."""
        self._files[env, path] = data
        return f"{self._ground.origin()}/_cos/{env}/{path}"

    def read(self, env: str, path: str) -> bytes | None:
        """Return a file, or None if there is none."""
        return self._files.get((env, path))
