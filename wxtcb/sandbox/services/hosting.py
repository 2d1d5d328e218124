"""Static websites of the environments."""

from __future__ import annotations

from typing import Final

from attrs import define, field, frozen

from wxtcb.sandbox.context import Readiness, ServiceContext
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.services.object_storage import LinkMethod, ObjectStore, SignedLink, StoredObject

__all__ = ["Hosting", "StaticSite"]

_UPLOAD_LINK_TTL: Final = 60


@frozen
class StaticSite:
    """A static website."""

    env: str
    readiness: Readiness

    @property
    def bucket(self) -> str:
        """Return the bucket that contains its files."""
        return f"b8b3-static-{self.env}-1304480914"


@define(eq=False)
class Hosting:
    """The static websites, at most one per environment."""

    _context: ServiceContext = field(repr=False)
    _object_store: ObjectStore = field(repr=False)
    _sites: dict[str, StaticSite] = field(init=False, repr=False, factory=dict[str, StaticSite])

    def create(self, env: str) -> None:
        """Create a website. Raise `PlatformError` if the environment has one."""
        self._context.require_normal(env)
        if env in self._sites:
            raise platform_error(40097, f"env {env} has static hosting already")
        self._sites[env] = StaticSite(env, self._context.start_operation())

    def poll(self, env: str) -> list[dict[str, str]]:
        """Count a poll of a website and return its row."""
        self._context.require_normal(env)
        return [self._poll_row(site) for site in [self._sites.get(env)] if site is not None]

    def read(self, env: str, path: str) -> bytes | None:
        """Return a file of a website, or None if it does not exist."""
        site = self._sites.get(env)
        found = None if site is None else self._object_store.get(site.bucket, path)
        return None if found is None else found.blob.file.read_bytes()

    def upload_link(self, env: str, filename: str) -> SignedLink:
        """Issue a link for the upload of a file."""
        return self._object_store.issue_link(
            LinkMethod.PUT, self._require_online(env).bucket, filename, _UPLOAD_LINK_TTL
        )

    def url(self, link: SignedLink) -> str:
        """Return the URL of a link."""
        return self._object_store.url(link)

    def list_page(self, env: str, *, prefix: str, delimiter: str, marker: str) -> tuple[list[StoredObject], bool]:
        """Return a page of the files of a website, and whether there are more."""
        return self._object_store.list_page(
            self._require_online(env).bucket, prefix=prefix, delimiter=delimiter, marker=marker
        )

    def _require_online(self, env: str) -> StaticSite:
        """Return a website that is online. Others have no files and accept none."""
        self._context.require_normal(env)
        site = self._sites.get(env)
        if site is None or not site.readiness.is_ready(self._context.clock()):
            raise platform_error(40097, f"env {env} has no static hosting online")
        return site

    def _poll_row(self, site: StaticSite) -> dict[str, str]:
        first = not site.readiness.poll_count
        ready = site.readiness.poll(self._context.clock())
        return {
            "env": site.env,
            "domain": f"{site.env}-1304480914.tcloudbaseapp.com",
            "bucket": site.bucket,
            "regoin": "ap-shanghai",
            "status": "online" if ready else "init" if first else "process",
        }
