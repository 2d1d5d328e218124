"""createstaticstore, describestaticstore, staticfilelist, staticuploadfile."""

from __future__ import annotations

from typing import Final

from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.services.object_storage import rows_of
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "create_site", "describe_site", "list_pages", "page_link"]


def create_site(world: World, body: Body) -> bytes:
    """Turn a website on, which takes its time; the second time is refused."""
    world.hosting.create(body.text("env"))
    return ok()


def describe_site(world: World, body: Body) -> bytes:
    """Describe the website of an environment, under the names that the platform has for it."""
    return ok(Data=world.hosting.look(body.text("env")))


def list_pages(world: World, body: Body) -> bytes:
    """List files by the bytes of their paths, at most 1000 at a time."""
    rows, more = world.hosting.page(
        body.text("env"),
        prefix=body.maybe_text("prefix") or "",
        delimiter=body.maybe_text("delimiter") or "",
        marker=body.maybe_text("marker") or "",
    )
    return ok(contents=rows_of(rows), is_truncated=more)


def page_link(world: World, body: Body) -> bytes:
    """Issue a link to put a file to, good for a minute."""
    link = world.hosting.upload_link(body.text("env"), body.text("filename"))
    return ok(signed_url=world.hosting.url(link), token=link.token)


HANDLERS: Final = {
    "/componenttcb/createstaticstore": create_site,
    "/componenttcb/describestaticstore": describe_site,
    "/componenttcb/staticfilelist": list_pages,
    "/componenttcb/staticuploadfile": page_link,
}
