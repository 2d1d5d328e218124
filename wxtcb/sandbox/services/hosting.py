"""Static websites of the environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from wxtcb.sandbox.cos.store import LinkMethod, ObjectStore
from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body
from wxtcb.sandbox.services.context import Readiness, ServiceContext

if TYPE_CHECKING:
    from wxtcb.sandbox.world import Handler


@frozen
class StaticSite:
    """A static website."""

    env: str
    readiness: Readiness

    # The form of the sample on the page; the number is the Tencent Cloud account.
    @property
    def bucket(self) -> str:
        return f"b8b3-static-{self.env}-1304480914"


@define(eq=False)
class Hosting:
    """The static websites, at most one per environment."""

    _context: ServiceContext = field(repr=False)
    _object_store: ObjectStore = field(repr=False)
    _sites: dict[str, StaticSite] = field(init=False, repr=False, factory=dict[str, StaticSite])

    def create(self, env: str) -> None:
        """Start to create a website; a second one is rejected."""
        self._context.require_normal(env)
        if env in self._sites:
            raise platform_error(40097, f"env {env} has static hosting already")
        self._sites[env] = StaticSite(env, self._context.start_operation())

    def poll(self, env: str) -> Mapping[str, object]:
        """Count a poll of a website; the fields keep the platform's spelling, such as "regoin"."""
        self._context.require_normal(env)
        site = self._sites.get(env)
        if site is None:
            return {"Data": []}
        # A website that is set up is "init" at first and "process" later, which clients must treat alike.
        first = not site.readiness.poll_count
        ready = site.readiness.poll(self._context.clock())
        status, domain = "online" if ready else "init" if first else "process", f"{env}-1304480914.tcloudbaseapp.com"
        row = {"env": env, "domain": domain, "bucket": site.bucket, "regoin": "ap-shanghai", "status": status}
        return {"Data": [row]}

    def read(self, env: str, path: str) -> bytes | None:
        site = self._sites.get(env)
        return None if site is None else self._object_store.read(site.bucket, path)

    def upload_link(self, body: Body) -> Mapping[str, object]:
        """Issue a link for uploading a file by PUT, valid for a minute."""
        bucket = self._online_bucket(body.string("env"))
        link = self._object_store.issue_link(LinkMethod.PUT, bucket, body.string("filename"), 60)
        return {"signed_url": self._object_store.url(link), "token": link.token}

    def list_files(self, body: Body) -> Mapping[str, object]:
        """List files ordered by the bytes of their paths, at most 1,000 at a time."""
        return self._object_store.list_page(self._online_bucket(body.string("env")), body)

    def _online_bucket(self, env: str) -> str:
        """Return the bucket of a website that is online. Others have no files and accept none."""
        self._context.require_normal(env)
        site = self._sites.get(env)
        if site is None or not site.readiness.is_ready(self._context.clock()):
            raise platform_error(40097, f"env {env} has no static hosting online")
        return site.bucket


HANDLERS: Final[dict[str, Handler]] = {
    "/componenttcb/createstaticstore": lambda world, body: world.hosting.create(body.string("env")),
    "/componenttcb/describestaticstore": lambda world, body: world.hosting.poll(body.string("env")),
    "/componenttcb/staticfilelist": lambda world, body: world.hosting.list_files(body),
    "/componenttcb/staticuploadfile": lambda world, body: world.hosting.upload_link(body),
}
