"""Files of an environment: uploads, downloads, and the calls they use (official group: cloudbase-batch/file-mgnt)."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar

import attrs
import orjson

from wxtcb._object_storage.body import UploadData, open_source
from wxtcb._object_storage.download import MAX_DOWNLOAD_BYTES, DownloadedFile as DownloadedFile, download
from wxtcb._object_storage.upload import UploadRequest, UploadTarget, upload
from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply, attach_metadata
from wxtcb._protocol.fields import NUMBER_IN_STRING, wire_format, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._pagination import by_marker
from wxtcb.api._transfer import check_delimiter, guess_content_type, is_stored, require_usable_link
from wxtcb.errors import InvalidArgument, PartialFailure, TransferError, WxtcbError
from wxtcb.secret import Secret
from wxtcb.validation import check_not_empty, check_positive_int, check_secret, require_strings, validator

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "BATCH_DELETE_FILE",
    "BATCH_DOWNLOAD_FILE",
    "ENDPOINTS",
    "GET_BUCKET",
    "MAX_DOWNLOAD_BYTES",
    "MAX_FILES_PER_CALL",
    "UPLOAD_FILE_LINK",
    "DeletedFile",
    "DeletedFiles",
    "DownloadedFile",
    "FileLink",
    "FileLinkRequest",
    "FileLinks",
    "FileList",
    "StoredFile",
    "UploadLink",
    "Uploaded",
    "batch_delete_file",
    "batch_download_file",
    "download_file",
    "download_url",
    "get_bucket",
    "iter_files",
    "upload_file",
    "upload_file_link",
]

A = TypeVar("A")
R = TypeVar("R", bound=Reply)
E = TypeVar("E", bound="_HasFileId")

# Documented for the non-batch twins of both calls; the pages of the batch calls name no maximum.
MAX_FILES_PER_CALL: Final = LIMITS.files_per_call


@attrs.frozen(kw_only=True)
class UploadLink(Reply):
    """Signed link for a form POST of one file.

    The form has these fields, in this order: `key` (the requested path), `Signature` (`authorization`),
    `x-cos-security-token` (`token`), `x-cos-meta-fileid` (`cos_file_id`), and `file` last. `file_id` identifies the
    file in all other calls.
    """

    keeps_raw: ClassVar[bool] = False

    url: Secret
    token: Secret
    authorization: Secret
    file_id: str
    cos_file_id: Secret


@attrs.frozen(kw_only=True)
class FileLinkRequest:
    """Request for a download link: the id of the file, and the seconds for which the link is valid."""

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    max_age: int = attrs.field(default=7200, validator=validator(check_positive_int))


@attrs.frozen(kw_only=True)
class FileLink:
    """Link to one file, for a plain GET: everyone who has it can read the file until it expires.

    `status` is 0 for a link, or the platform's error code for this file. It is None if no reply contains the file,
    for instance because a call failed.
    """

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    download_url: Secret | None = None
    status: int | None = None
    errmsg: str | None = None


@attrs.frozen(kw_only=True)
class FileLinks(Reply):
    """Links to files, in the order of the request."""

    keeps_raw: ClassVar[bool] = False

    file_list: tuple[FileLink, ...]

    @property
    def failed(self) -> Sequence[FileLink]:
        return tuple(each for each in self.file_list if each.status != 0)


@attrs.frozen(kw_only=True)
class DeletedFile:
    """Result of deleting one file.

    `status` is 0 if the file is deleted, or the platform's error code for this file. It is None if no reply contains
    the file, for instance because a call failed.
    """

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    status: int | None = None
    errmsg: str | None = None


@attrs.frozen(kw_only=True)
class DeletedFiles(Reply):
    """Results of deleting files, in the order of the request."""

    delete_list: tuple[DeletedFile, ...]

    @property
    def failed(self) -> Sequence[DeletedFile]:
        return tuple(each for each in self.delete_list if each.status != 0)


@attrs.frozen(kw_only=True)
class StoredFile:
    """One file of a list: its path, its `size` in bytes, and when it was written (ISO 8601, UTC).

    If the file was uploaded in N parts, `md5` ends with -N and is not the MD5 of its bytes.
    """

    key: str
    last_modified: str
    md5: str
    size: int = attrs.field(metadata=wire_format(NUMBER_IN_STRING))


@attrs.frozen(kw_only=True)
class FileList(Reply):
    """One page of a list of files, ordered by the UTF-8 bytes of their paths; `is_truncated` if there are more."""

    contents: tuple[StoredFile, ...] = ()
    is_truncated: bool = False


UPLOAD_FILE_LINK: Final = Endpoint(
    "/componenttcb/uploadfile", UploadLink, Repeat.READ, name="upload_file_link", official="getUploadFileLink"
)
BATCH_DOWNLOAD_FILE: Final = Endpoint(
    "/componenttcb/batchdownloadfile",
    FileLinks,
    Repeat.READ,
    name="batch_download_file",
    official="getDownloadFileLink",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
BATCH_DELETE_FILE: Final = Endpoint(
    "/componenttcb/batchdeletefile",
    DeletedFiles,
    Repeat.SET,
    name="batch_delete_file",
    official="deleteTcbFile",
    max_reply_bytes=LIMITS.list_reply_bytes,
)
GET_BUCKET: Final = Endpoint(
    "/componenttcb/getbucket",
    FileList,
    Repeat.READ,
    name="get_bucket",
    official="getTcbFile",
    max_reply_bytes=LIMITS.list_reply_bytes,
)


async def upload_file_link(session: Session, env: str, path: str) -> UploadLink:
    """Return a signed link to upload one file to *path*; the link is valid for 15 minutes.

    `upload_file` gets the link and uploads the file. If you post the form yourself, do not omit ``x-cos-meta-fileid``:
    the file would be stored, but could never be downloaded by its id.
    Official interface: getUploadFileLink, page cloudbase-batch/file-mgnt/getUploadFileLink.
    """
    return await session.call(UPLOAD_FILE_LINK, {"env": env, "path": path})


async def batch_download_file(session: Session, env: str, files: Iterable[FileLinkRequest]) -> FileLinks:
    """Return download links for any number of files, in their order; 50 files are requested at a time.

    `download_file` gets the link and downloads the file. Raises `PartialFailure` once, at the end, if some files have
    no link; every file is in ``.reply.file_list``. If a later call fails, its error is ``.cause``, and the files of
    that call and of the remaining ones have status None. If the first call fails, its error is raised unchanged.
    Official interface: getDownloadFileLink, page cloudbase-batch/file-mgnt/getDownloadFileLink.
    """
    requests = tuple(files)
    check_not_empty("files", requests)

    def merge(replies: Sequence[FileLinks]) -> FileLinks:
        links = (link for reply in replies for link in reply.file_list)
        return FileLinks(file_list=_in_requested_order([each.file_id for each in requests], links, FileLink))

    return await _call_in_batches(
        session, BATCH_DOWNLOAD_FILE, requests, lambda batch: {"env": env, "file_list": batch}, merge
    )


async def batch_delete_file(session: Session, env: str, file_ids: Iterable[str]) -> DeletedFiles:
    """Delete any number of files by their ids, in their order; 50 files are deleted at a time.

    Raises `PartialFailure` as `batch_download_file` does; a file with status None may or may not be deleted. Deleting
    again is harmless, but a deleted file may be reported as not existing, also if an attempt with a lost reply deleted
    it.
    Official interface: deleteTcbFile, page cloudbase-batch/file-mgnt/deleteTcbFile.
    """
    ids = require_strings("file_ids", file_ids)

    def merge(replies: Sequence[DeletedFiles]) -> DeletedFiles:
        results = (file for reply in replies for file in reply.delete_list)
        return DeletedFiles(delete_list=_in_requested_order(ids, results, DeletedFile))

    return await _call_in_batches(
        session, BATCH_DELETE_FILE, ids, lambda batch: {"env": env, "fileid_list": batch}, merge
    )


async def get_bucket(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None, marker: str | None = None
) -> FileList:
    """Return one page of at most 1000 files of an environment; `iter_files` iterates over all pages.

    The page contains paths that start with *prefix* and come after *marker*, in the order of their UTF-8 bytes.
    *delimiter* is one character. It excludes paths that contain it after the prefix: the platform groups them, but does
    not return the groups.
    Official interface: getTcbFile, page cloudbase-batch/file-mgnt/getTcbFile.
    """
    check_delimiter(delimiter)
    return await session.call(GET_BUCKET, {"env": env, "prefix": prefix, "delimiter": delimiter, "marker": marker})


def iter_files(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None
) -> AsyncIterator[StoredFile]:
    """Iterate over the files of an environment, fetching a page when it is needed; see `get_bucket`."""
    check_delimiter(delimiter)

    async def fetch(marker: str | None) -> tuple[Sequence[StoredFile], bool]:
        page = await get_bucket(session, env, prefix=prefix, delimiter=delimiter, marker=marker)
        return page.contents, page.is_truncated

    return by_marker(GET_BUCKET, fetch, lambda file: file.key)


async def _call_in_batches(
    session: Session,
    endpoint: Endpoint[R],
    items: Sequence[A],
    build_body: Callable[[Sequence[A]], Mapping[str, object]],
    merge: Callable[[Sequence[R]], R],
) -> R:
    """Call *endpoint* for all items, one batch after the other, and return the merged reply."""
    # Failed files of one batch must not stop the others: `PartialFailure` is raised once, for all of them.
    view = session.with_options(partial="return")
    replies: list[R] = []
    cause: WxtcbError | None = None
    for start in range(0, len(items), MAX_FILES_PER_CALL):
        try:
            replies.append(await view.call(endpoint, build_body(items[start : start + MAX_FILES_PER_CALL])))
        except WxtcbError as error:
            if not replies:
                raise
            cause = error
            break
    result = _merge_metadata(replies, merge(replies))
    if cause or (result.failed and session.partial == "raise"):
        raise PartialFailure(result, result.failed, endpoint=endpoint.path, cause=cause)
    return result


class _HasFileId(Protocol):
    @property
    def file_id(self) -> str: ...


def _in_requested_order(file_ids: Iterable[str], results: Iterable[E], make_missing: Callable[..., E]) -> tuple[E, ...]:
    """Return one result for each file id, in the order of *file_ids*, and a missing one where there is no result.

    If an id is requested several times, its results are used one after the other, and the last one is repeated.
    """
    by_id: dict[str, deque[E]] = defaultdict(deque)
    for result in results:
        by_id[result.file_id].append(result)

    def next_result(file_id: str) -> E:
        if file_id not in by_id:
            return make_missing(file_id=file_id)
        remaining = by_id[file_id]
        return remaining.popleft() if len(remaining) > 1 else remaining[0]

    return tuple(map(next_result, file_ids))


def _merge_metadata(replies: Sequence[R], merged: R) -> R:
    """Return *merged* with the raw JSON, if it is kept, and the `maybe_acted` count of all its parts."""
    # A single complete reply keeps its own bytes.
    if len(replies) == 1 and merged == replies[0]:
        return replies[0]
    maybe_acted = sum(reply.maybe_acted for reply in replies)
    if not merged.keeps_raw:
        return attach_metadata(merged, maybe_acted=maybe_acted)
    merged_raw: dict[str, object] = {}
    for reply in replies:
        for name, value in raw(reply).items():
            previous = merged_raw.get(name)
            merged_raw[name] = previous + value if isinstance(previous, list) and isinstance(value, list) else value
    return attach_metadata(merged, raw=orjson.dumps(merged_raw), maybe_acted=maybe_acted)


# Uploads and downloads
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
    called with the number of bytes sent and the total. At most as many transfers as the session has `connections` run
    at a time; the others wait for a slot. Raises `InvalidArgument` before a request is sent if the source cannot be
    read. Raises `TransferError` if the upload fails; its ``.stored`` says whether the object exists. Raises the errors
    of `upload_file_link`. A failed upload leaves no partial object, and is repeated automatically only if none of its
    bytes were sent. Uses the official interface getUploadFileLink.
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
    max_bytes: int | None = MAX_DOWNLOAD_BYTES,
) -> DownloadedFile:
    """Download a file to *path*, replacing an existing file.

    The data is written to a temporary file next to *path*, which replaces *path* once it is complete and on disk; until
    then *path* is unchanged. An interrupted download is resumed with a new link, unless the file has changed; it fails
    after five interruptions without another byte. *progress* is called with the number of bytes received and the total,
    if it is known; the first number falls if the download has to start over. A symbolic link at *path* is replaced, not
    followed. Only you can read the new file (mode 600), unless it replaces your own file, whose mode it gets. Raises
    `InvalidArgument` before a request is sent if no file can be created there. Raises `TransferError` if the file does
    not exist (``.code``), has more than *max_bytes* bytes (None: no limit), or the download fails. Uses the official
    interface getDownloadFileLink.
    """
    view = session.with_options(partial="return")

    async def get_url() -> Secret:
        [link] = (await batch_download_file(view, env, [FileLinkRequest(file_id=file_id)])).file_list
        if link.status != 0 or not link.download_url:
            reason = f"{link.status} {link.errmsg}" if link.status else "the platform returned no link"
            raise TransferError(f"download of {file_id}: {reason}", code=link.errmsg, stored=None)
        require_usable_link(session, BATCH_DOWNLOAD_FILE, link.download_url)
        return link.download_url

    return await download(
        session.storage_client,
        path,
        label=f"download of {file_id}",
        get_url=get_url,
        retry_policy=session.retry,
        progress=progress,
        max_bytes=max_bytes,
    )


async def download_url(
    session: Session,
    url: str | Secret,
    path: str | os.PathLike[str],
    *,
    progress: Callable[[int, int | None], object] | None = None,
    max_bytes: int | None = MAX_DOWNLOAD_BYTES,
) -> DownloadedFile:
    """Download from a URL that the platform returned, such as that of a database export, to *path*.

    No token is sent. An interrupted download is resumed with the same URL. Everything else is as in `download_file`.
    Raises `InvalidArgument` for a host that ``Session(transfer_hosts=...)`` does not allow.
    """
    check_secret("url", url)
    link = Secret.of(url)
    # A traceback shows the local variables of this frame: leave no plain URL among them, for it is signed.
    del url
    if problem := session.storage_client.link_policy.find_problem(link):
        raise InvalidArgument(f"url cannot be used: {problem}. No request was sent")

    async def get_url() -> Secret:
        return link

    return await download(
        session.storage_client,
        path,
        label="download of a URL",
        get_url=get_url,
        retry_policy=session.retry,
        progress=progress,
        max_bytes=max_bytes,
    )


ENDPOINTS: Final = (UPLOAD_FILE_LINK, BATCH_DOWNLOAD_FILE, BATCH_DELETE_FILE, GET_BUCKET)
