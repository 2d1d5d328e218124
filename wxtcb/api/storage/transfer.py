"""Uploads and downloads: get the link, transfer the bytes, check the result."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from wxtcb._object_storage.body import UploadData, open_source
from wxtcb._object_storage.download import DownloadedFile, download
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
from wxtcb.validation import check_secret

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class Uploaded:
    """A stored file: its id, its path, and its `size` in bytes."""

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
    """Upload *source* to *path*, replacing an existing file, and return its id.

    *source* is a path, bytes, or an async iterator of bytes. An iterator needs *size*, which is sent before the first
    byte; the upload fails if the iterator yields another number of bytes. Files are read in pieces. *progress* is
    called with the number of bytes sent and the total.

    At most as many transfers as the session has `connections` run at a time; the others wait for a slot.

    Raises `InvalidArgument` before a request is sent if the source cannot be read. Raises `TransferError` if the upload
    fails; its ``.stored`` says whether the object exists. Raises the errors of `upload_file_link`. A failed upload
    leaves no partial object, and is repeated automatically only if none of its bytes were sent.

    Uses the official interface getUploadFileLink.
    """

    async def get_link() -> UploadLink:
        link = await upload_file_link(session, env, path)
        require_usable_link(session, UPLOAD_FILE_LINK, link.url)
        return link

    def target_of(link: UploadLink) -> UploadTarget:
        # The object storage reads the form in order: see `UploadLink`.
        form: dict[str, str | Secret] = {
            "key": path,
            "Signature": link.authorization,
            "x-cos-security-token": link.token,
            "x-cos-meta-fileid": link.cos_file_id,
        }
        return UploadTarget("POST", link.url, form=form)

    async with session.storage_client.slot(), open_source(source, size) as opened:
        request = UploadRequest(
            label=f"upload of {path!r}",
            content_type=guess_content_type(path),
            get_link=get_link,
            target_of=target_of,
            check_stored=partial(is_stored, partial(get_bucket, session, env, prefix=path), path),
            retry_policy=session.retry,
            progress=progress,
        )
        link = await upload(session.storage_client, opened, request)
        return Uploaded(file_id=link.file_id, path=path, size=opened.size)


async def download_file(
    session: Session,
    env: str,
    file_id: str,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int | None], object] | None = None,
) -> DownloadedFile:
    """Download a file to *path*, replacing an existing file.

    The data is written to a temporary file next to *path*, which replaces *path* once it is complete and on disk; until
    then *path* is unchanged. An interrupted download is resumed with a new link, unless the file has changed; it fails
    after five interruptions without another byte. *progress* is called with the number of bytes received and the total,
    if it is known; the first number falls if the download has to start over. A symbolic link at *path* is replaced, not
    followed.

    Raises `InvalidArgument` before a request is sent if no file can be created there, and `TransferError` if the file
    does not exist (``.code``) or the download fails.

    Uses the official interface getDownloadFileLink.
    """
    view = session.with_options(partial="return")

    async def get_url() -> Secret:
        [link] = (await batch_download_file(view, env, [FileLinkRequest(file_id=file_id)])).file_list
        if link.status != 0 or not link.download_url:
            reason = f"{link.status} {link.errmsg}" if link.status else "the platform returned no link"
            raise TransferError(f"download of {file_id}: {reason}", code=link.errmsg, stored=None)
        url = Secret(link.download_url)
        require_usable_link(session, BATCH_DOWNLOAD_FILE, url)
        return url

    return await download(
        session.storage_client,
        path,
        label=f"download of {file_id}",
        get_url=get_url,
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
    """Download from a URL that the platform returned, such as that of a database export, to *path*.

    No token is sent. An interrupted download is resumed with the same URL. Everything else is as in `download_file`.
    """
    check_secret("url", url)
    link = Secret.of(url)
    # A traceback shows the local variables of this frame: leave no plain URL among them, for it is signed.
    del url
    if not is_url_allowed(link, allow_http=session.allow_http):
        raise InvalidArgument(
            "url must be https without user and password; plain http needs a loopback host or allow_http=True"
        )

    async def get_url() -> Secret:
        return link

    return await download(
        session.storage_client,
        path,
        label="download of a URL",
        get_url=get_url,
        retry_policy=session.retry,
        progress=progress,
    )


async def is_stored(fetch_page: Callable[[], Awaitable[FileList]], key: str, size: int, md5: str) -> bool | None:
    """Return whether the object *key* has exactly these bytes, or None if that is unknown.

    *fetch_page* lists the objects whose keys begin with *key*.
    """
    try:
        page = await fetch_page()
    except WxtcbError:
        return None
    found = next((file for file in page.contents if file.key == key), None)
    if found is None or found.size != size:
        return False
    etag = found.md5.strip('"').lower()
    # An object that was uploaded in parts has an ETag with a "-", which is not an MD5.
    return None if "-" in etag else etag == md5


def require_usable_link(
    session: Session, endpoint: Endpoint[Reply], url: Secret, header_value: Secret | None = None
) -> None:
    """Raise `BadReply` for a link that would send the file and its signature over plain http, or an invalid header."""
    if not is_url_allowed(url, allow_http=session.allow_http):
        reason = "the link is neither https nor loopback"
        raise BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)
    # A line break in the value would add headers of its own to the request.
    if header_value is not None and not header_value.reveal().isprintable():
        reason = "the token of the link contains characters that no header can have"
        raise BadReply(reason, endpoint=endpoint.path, status=200, permanent=True)


def guess_content_type(path: str) -> str:
    """Return the content type for a file of this name."""
    # Without the slash, `guess_type` would read a name that begins with "data:" as a URL.
    content_type, encoding = mimetypes.guess_type(f"/{path}")
    # The type of "page.html.gz" would be that of the unpacked file.
    return content_type if content_type and not encoding else "application/octet-stream"
