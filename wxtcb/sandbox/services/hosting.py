"""The static websites of the environments."""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen

from wxtcb.sandbox.context import Ground, Ripening
from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.services.object_storage import Link, Object, Objects, Right

__all__ = ["Hosting", "Site"]

_PUT_SECONDS: Final = 60


@frozen
class Site:
    """A static website."""

    env: str
    ripening: Ripening

    @property
    def bucket(self) -> str:
        """The bucket that its files are in."""
        return f"b8b3-static-{self.env}-1304480914"


@define(eq=False)
class Hosting:
    """The static websites of the environments, one each at most."""

    _ground: Ground = field(repr=False)
    _objects: Objects = field(repr=False)
    _sites: dict[str, Site] = field(init=False, repr=False, factory=dict[str, Site])

    def create(self, env: str) -> None:
        """Turn a website on; a second one is refused."""
        self._ground.need_normal(env)
        if env in self._sites:
            raise refuse(40097, f"env {env} has static hosting already")
        self._sites[env] = Site(env, self._ground.begin())

    def look(self, env: str) -> list[dict[str, str]]:
        """Count a look at a website, and describe it."""
        self._ground.need_normal(env)
        return [self._row(site) for site in [self._sites.get(env)] if site is not None]

    def read(self, env: str, path: str) -> bytes | None:
        """Return a file of a website, or None if there is none."""
        site = self._sites.get(env)
        found = None if site is None else self._objects.get(site.bucket, path)
        return None if found is None else found.blob.file.read_bytes()

    def upload_link(self, env: str, filename: str) -> Link:
        """Issue a link to put a file of a website to."""
        return self._objects.issue(Right.PUT, self._need(env).bucket, filename, _PUT_SECONDS)

    def url(self, link: Link) -> str:
        """Return a link as a URL."""
        return self._objects.url(link)

    def page(self, env: str, *, prefix: str, delimiter: str, marker: str) -> tuple[list[Object], bool]:
        """List files of a website."""
        return self._objects.page(self._need(env).bucket, prefix=prefix, delimiter=delimiter, marker=marker)

    def _need(self, env: str) -> Site:
        """Return a website that is online; any other has no files, and takes none."""
        self._ground.need_normal(env)
        site = self._sites.get(env)
        if site is None or not site.ripening.is_ready(self._ground.clock()):
            raise refuse(40097, f"env {env} has no static hosting that is online")
        return site

    def _row(self, site: Site) -> dict[str, str]:
        first = not site.ripening.looks
        ready = site.ripening.look(self._ground.clock())
        return {
            "env": site.env,
            "domain": f"{site.env}-1304480914.tcloudbaseapp.com",
            "bucket": site.bucket,
            "regoin": "ap-shanghai",
            "status": "online" if ready else "init" if first else "process",
        }
