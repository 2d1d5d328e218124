"""Whole uploads and downloads: the link, the bytes, and what came of them."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from wxtcb._object_storage.download import DownloadedFile, download
from wxtcb._object_storage.source import UploadData, open_source
from wxtcb._object_storage.upload import UploadRequest, UploadTarget, upload
from wxtcb._object_storage.urls import is_url_allowed
from wxtcb._protocol.endpoint import Endpoint, Reply
from wxtcb.api.storage.files import (
    BATCH_DOWNLOAD_FILE,
    UPLOAD_FILE_LINK,
    FileLinkRequest,
    FileList,
    UploadLink,
    batch_download_file,
    get_bucket,
    upload_file_link,
)
from wxtcb.errors import BadReply, InvalidArgument, TransferError, WxtcbError
from wxtcb.secret import Secret
from wxtcb.validation import check_secret, check_string

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class Uploaded:
    """A file that is stored: its id, its path, and its `size` in bytes."""

    file_id: str
    path: str
    size: int


async def upload_file(
    session: Session,
    env: str,
    path: str,
    source: UploadData,
    *,
    size: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Uploaded:
    """Store *source* as the file at *path*, over one that is there already, and return its id.

    *source* is a path, bytes, or an async iterator of bytes, whose *size* must be given, for it is announced before the
    first byte; one that gives another number breaks the upload. Of a file, no more than some pieces are in memory.
    *progress* is called with the number of bytes sent, and of all.

    As many transfers as the session has `connections` are under way at a time; the others wait for their turn.

    Raises `InvalidArgument` for a source that cannot be read, before anything is sent, `TransferError` for a broken
    upload, which says in ``.stored`` whether the object exists, and what `upload_file_link` raises. An upload that
    broke off leaves no half object, and is not sent again by itself, unless none of it had left.

    Stands on the official interface getUploadFileLink.
    """
    check_string("env", env)
    check_string("path", path)

    async def ask() -> UploadLink:
        link = await upload_file_link(session, env, path)
        require_usable_link(session, UPLOAD_FILE_LINK, link.url)
        return link

    def aim(link: UploadLink) -> UploadTarget:
        form: dict[str, str | Secret] = {
            "key": path,
            "Signature": link.authorization,
            "x-cos-security-token": link.token,
            "x-cos-meta-fileid": link.cos_file_id,
        }
        return UploadTarget("POST", link.url, form=form)

    async with session.storage_client.slot(), open_source(source, size) as opened:
        sending = UploadRequest(
            label=f"upload of {path!r}",
            content_type=guess_content_type(path),
            get_link=ask,
            target_of=aim,
            check_stored=partial(is_stored, partial(get_bucket, session, env, prefix=path), path),
            retry_policy=session.retry,
            progress=progress,
        )
        link = await upload(session.storage_client, opened, sending)
        return Uploaded(file_id=link.file_id, path=path, size=opened.size)


async def download_file(
    session: Session,
    env: str,
    file_id: str,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int | None], object] | None = None,
) -> DownloadedFile:
    """Download a file to *path*, over one that is there already.

    It is written beside *path* and takes its place once it is whole and on the disk; until then, and if that never
    happens, what was at *path* is as it was. After a break it goes on where it was, with a fresh link, unless the file
    has changed; it gives up after five breaks without another byte. *progress* is called with the number of bytes that
    are there, and of all, where that is known; the former falls when the download has to start over. A symbolic link
    at *path* is replaced, not followed.

    Raises `InvalidArgument` when no file can be made there, before anything is sent; `TransferError` when the file does
    not exist (``.code``) or does not come.

    Stands on the official interface getDownloadFileLink.
    """
    check_string("env", env)
    check_string("file_id", file_id)
    view = session.with_options(partial="return")

    async def ask() -> Secret:
        [link] = (await batch_download_file(view, env, [FileLinkRequest(file_id=file_id)])).file_list
        if link.status != 0 or not link.download_url:
            said = f"{link.status} {link.errmsg}" if link.status else "there is no link to it"
            raise TransferError(f"download of {file_id}: {said}", code=link.errmsg, stored=None)
        url = Secret(link.download_url)
        require_usable_link(session, BATCH_DOWNLOAD_FILE, url)
        return url

    return await download(
        session.storage_client,
        path,
        label=f"download of {file_id}",
        get_url=ask,
        retry_policy=session.retry,
        progress=progress,
    )


async def download_url(
    session: Session,
    url: str | Secret,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int | None], object] | None = None,
) -> DownloadedFile:
    """Download what the platform gave a URL of, such as a database's export; the rest is as in `download_file`.

    No token is sent there. After a break the same URL is asked again.
    """
    check_secret("url", url)
    link = Secret.of(url)
    del url
    if not is_url_allowed(link, allow_http=session.allow_http):
        raise InvalidArgument("url must be https, or http to this machine or with allow_http=True, without a user")

    async def ask() -> Secret:
        return link

    return await download(
        session.storage_client,
        path,
        label="download of a URL",
        get_url=ask,
        retry_policy=session.retry,
        progress=progress,
    )


async def is_stored(fetch_page: Callable[[], Awaitable[FileList]], key: str, size: int, md5: str) -> bool | None:
    """Look whether an object has exactly these bytes; *page* lists what begins with its *key*, itself the first."""
    try:
        listed = await fetch_page()
    except WxtcbError:
        return None
    found = next((file for file in listed.contents if file.key == key), None)
    if found is None or found.size != size:
        return False
    hashed = found.md5.strip('"').lower()
    return None if "-" in hashed else hashed == md5


def require_usable_link(
    session: Session, endpoint: Endpoint[Reply], url: Secret, header_value: Secret | None = None
) -> None:
    """Refuse a link of the platform's that would show the file and its signature on the way, or fits in no header."""
    if not is_url_allowed(url, allow_http=session.allow_http):
        reason = "the link is neither https nor one to this machine"
        raise BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)
    if header_value is not None and not header_value.reveal().isprintable():
        reason = "the token of the link holds characters that no header can have"
        raise BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)


def guess_content_type(path: str) -> str:
    """Return what a file of that name holds, which a browser goes by.

    Of what is packed (`.html.gz`) that is not what it unpacks to. A name is no URL: "data:" at its beginning says
    nothing.
    """
    kind, packing = mimetypes.guess_type(f"/{path}")
    return kind if kind and not packing else "application/octet-stream"
