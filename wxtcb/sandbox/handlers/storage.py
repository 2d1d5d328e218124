"""uploadfile, batchdownloadfile, batchdeletefile, getbucket."""

from __future__ import annotations

from typing import Final

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.request import Body, ok
from wxtcb.sandbox.services.object_storage import rows_of
from wxtcb.sandbox.services.storage import file_id_of
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "delete_files", "download_links", "list_files", "upload_link"]

_MOST: Final = 50
_MISSING: Final = {"status": -503003, "errmsg": "STORAGE_FILE_NONEXIST"}
_FINE: Final = {"status": 0, "errmsg": "ok"}


def upload_link(world: World, body: Body) -> bytes:
    """Issue a link to post a file to, good for 15 minutes."""
    env, path = body.text("env"), body.text("path")
    link, meta = world.storage.upload_link(env, path)
    return ok(
        url=world.storage.objects.url(link),
        token=link.token,
        authorization=link.signature,
        file_id=file_id_of(env, path),
        cos_file_id=meta,
    )


def download_links(world: World, body: Body) -> bytes:
    """Issue links to files, one by one: a file that is not there has a status of its own, under errcode 0."""
    env, rows = body.text("env"), body.rows("file_list")
    world.storage.need_normal(env)
    _count(rows)
    links: list[dict[str, object]] = []
    for row in rows:
        file_id, max_age = row.text("fileid"), row.number("max_age", 0)
        if max_age < 1:
            raise refuse(40097, "max_age must be above 0")
        url = world.storage.download_link(env, file_id, max_age)
        links.append({"fileid": file_id, "download_url": url or "", **(_FINE if url else _MISSING)})
    return ok(file_list=links)


def delete_files(world: World, body: Body) -> bytes:
    """Delete files one by one: one that is not there has a status of its own, under errcode 0."""
    env, ids = body.text("env"), body.texts("fileid_list")
    world.storage.need_normal(env)
    _count(ids)
    gone = [{"fileid": each, **(_FINE if world.storage.delete(env, each) else _MISSING)} for each in ids]
    return ok(delete_list=gone)


def list_files(world: World, body: Body) -> bytes:
    """List files by the bytes of their paths, at most 1000 at a time."""
    rows, more = world.storage.page(
        body.text("env"),
        prefix=body.maybe_text("prefix") or "",
        delimiter=body.maybe_text("delimiter") or "",
        marker=body.maybe_text("marker") or "",
    )
    return ok(contents=rows_of(rows), is_truncated=more)


def _count(files: list[Body] | list[str]) -> None:
    if len(files) > _MOST:
        raise refuse(40097, f"at most {_MOST} files at a time")


HANDLERS: Final = {
    "/componenttcb/uploadfile": upload_link,
    "/componenttcb/batchdownloadfile": download_links,
    "/componenttcb/batchdeletefile": delete_files,
    "/componenttcb/getbucket": list_files,
}
