"""Handlers of the static hosting calls: create, describe, list files, upload link."""

from __future__ import annotations

from typing import Final

from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services.object_storage import object_rows
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "create_site", "describe_site", "list_site_files", "site_upload_link"]


def create_site(world: World, body: Body) -> bytes:
    """Start to create the website of an environment; a second one is rejected."""
    world.hosting.create(body.string("env"))
    return success()


def describe_site(world: World, body: Body) -> bytes:
    """Describe the website of an environment; the fields keep the platform's spelling, such as "regoin"."""
    return success(Data=world.hosting.poll(body.string("env")))


def list_site_files(world: World, body: Body) -> bytes:
    """List files ordered by the bytes of their paths, at most 1,000 at a time."""
    rows, more = world.hosting.list_page(
        body.string("env"),
        prefix=body.optional_string("prefix") or "",
        delimiter=body.optional_string("delimiter") or "",
        marker=body.optional_string("marker") or "",
    )
    return success(contents=object_rows(rows), is_truncated=more)


def site_upload_link(world: World, body: Body) -> bytes:
    """Issue a link for uploading a file by PUT, valid for a minute."""
    link = world.hosting.upload_link(body.string("env"), body.string("filename"))
    return success(signed_url=world.hosting.url(link), token=link.token)


HANDLERS: Final = {
    "/componenttcb/createstaticstore": create_site,
    "/componenttcb/describestaticstore": describe_site,
    "/componenttcb/staticfilelist": list_site_files,
    "/componenttcb/staticuploadfile": site_upload_link,
}
