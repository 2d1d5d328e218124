"""Handlers of the file storage calls: upload link, download links, delete, list."""

from __future__ import annotations

from typing import Final

from wxtcb.sandbox.errors import platform_error
from wxtcb.sandbox.request import Body, success
from wxtcb.sandbox.services.object_storage import object_rows
from wxtcb.sandbox.services.storage import make_file_id
from wxtcb.sandbox.world import World

__all__ = ["HANDLERS", "delete_files", "download_links", "list_files", "upload_link"]

_MAX_FILES: Final = 50
_NOT_FOUND_STATUS: Final = {"status": -503003, "errmsg": "STORAGE_FILE_NONEXIST"}
_SUCCESS_STATUS: Final = {"status": 0, "errmsg": "ok"}


def upload_link(world: World, body: Body) -> bytes:
    """Issue a link for uploading a file by POST, valid for 15 minutes."""
    env, path = body.string("env"), body.string("path")
    link, meta = world.storage.upload_link(env, path)
    return success(
        url=world.storage.objects.url(link),
        token=link.token,
        authorization=link.signature,
        file_id=make_file_id(env, path),
        cos_file_id=meta,
    )


def download_links(world: World, body: Body) -> bytes:
    """Issue links to files; a missing file has an error status of its own, with errcode 0."""
    env, rows = body.string("env"), body.objects("file_list")
    world.storage.require_normal(env)
    _check_file_count(rows)
    links: list[dict[str, object]] = []
    for row in rows:
        file_id, max_age = row.string("fileid"), row.integer("max_age", 0)
        if max_age < 1:
            raise platform_error(40097, "max_age must be at least 1")
        url = world.storage.download_link(env, file_id, max_age)
        links.append({"fileid": file_id, "download_url": url or "", **(_SUCCESS_STATUS if url else _NOT_FOUND_STATUS)})
    return success(file_list=links)


def delete_files(world: World, body: Body) -> bytes:
    """Delete files; a missing file has an error status of its own, with errcode 0."""
    env, file_ids = body.string("env"), body.strings("fileid_list")
    world.storage.require_normal(env)
    _check_file_count(file_ids)
    deleted = [
        {"fileid": file_id, **(_SUCCESS_STATUS if world.storage.delete(env, file_id) else _NOT_FOUND_STATUS)}
        for file_id in file_ids
    ]
    return success(delete_list=deleted)


def list_files(world: World, body: Body) -> bytes:
    """List files ordered by the bytes of their paths, at most 1,000 at a time."""
    rows, more = world.storage.list_page(
        body.string("env"),
        prefix=body.optional_string("prefix") or "",
        delimiter=body.optional_string("delimiter") or "",
        marker=body.optional_string("marker") or "",
    )
    return success(contents=object_rows(rows), is_truncated=more)


def _check_file_count(files: list[Body] | list[str]) -> None:
    if len(files) > _MAX_FILES:
        raise platform_error(40097, f"at most {_MAX_FILES} files at a time")


HANDLERS: Final = {
    "/componenttcb/uploadfile": upload_link,
    "/componenttcb/batchdownloadfile": download_links,
    "/componenttcb/batchdeletefile": delete_files,
    "/componenttcb/getbucket": list_files,
}
