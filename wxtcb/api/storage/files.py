"""The calls of file storage that are one request each, and the list of all of a bucket's files."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, TypeVar

import attrs
import orjson

from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply, attach_metadata
from wxtcb._protocol.fields import NUMBER_IN_STRING, wire_format, wire_name
from wxtcb.api._pagination import by_marker
from wxtcb.errors import InvalidArgument, PartialFailure, WxtcbError
from wxtcb.secret import Secret
from wxtcb.validation import (
    check_list_of,
    check_not_empty,
    check_positive_int,
    check_string,
    check_strings,
    check_type_or_none,
    to_str_tuple,
    to_tuple,
    validator,
)

if TYPE_CHECKING:
    from wxtcb.session import Session

A = TypeVar("A")
R = TypeVar("R", bound=Reply)
E = TypeVar("E", bound="_HasFileId")

MAX_FILES_PER_CALL: Final = 50


@attrs.frozen(kw_only=True)
class UploadLink(Reply):
    """Where one file may be posted to, and with what.

    The form's fields, in this order: `key` (the path asked for), `Signature` (`authorization`), `x-cos-security-token`
    (`token`), `x-cos-meta-fileid` (`cos_file_id`), and `file` last. `file_id` names the file in all other calls.
    """

    keeps_raw: ClassVar[bool] = False

    url: Secret
    token: Secret
    authorization: Secret
    file_id: str
    cos_file_id: Secret


@attrs.frozen(kw_only=True)
class FileLinkRequest:
    """A file to be downloaded, by its id, and how many seconds the link to it is to live."""

    file_id: str = attrs.field(validator=validator(check_string), metadata=wire_name("fileid"))
    max_age: int = attrs.field(default=7200, validator=validator(check_positive_int))


@attrs.frozen(kw_only=True)
class FileLink:
    """The link to one file, fetched with a plain GET: whoever has it can read the file as long as it lives.

    `status` is 0 for a link, else the platform's code of what is wrong with this file; None: no answer names it,
    perhaps because a call ended with an error.
    """

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    download_url: str | None = attrs.field(default=None, repr=False)
    status: int | None = None
    errmsg: str | None = None


@attrs.frozen(kw_only=True)
class FileLinks(Reply):
    """Links to files, in the order in which they were asked for."""

    file_list: tuple[FileLink, ...]

    @property
    def failed(self) -> Sequence[FileLink]:
        return tuple(each for each in self.file_list if each.status != 0)


@attrs.frozen(kw_only=True)
class DeletedFile:
    """What became of one file that was to be deleted.

    `status` is 0 for deleted, else the platform's code of what is wrong with this file; None: no answer names it,
    perhaps because a call ended with an error.
    """

    file_id: str = attrs.field(metadata=wire_name("fileid"))
    status: int | None = None
    errmsg: str | None = None


@attrs.frozen(kw_only=True)
class DeletedFiles(Reply):
    """What became of files that were to be deleted, in the order in which they were given."""

    delete_list: tuple[DeletedFile, ...]

    @property
    def failed(self) -> Sequence[DeletedFile]:
        return tuple(each for each in self.delete_list if each.status != 0)


@attrs.frozen(kw_only=True)
class StoredFile:
    """One file of a list: its path, its `size` in bytes, and when it was written (ISO 8601, UTC).

    `md5` ends with -N where the file was uploaded in N parts; then it is not the MD5 of its bytes.
    """

    key: str
    last_modified: str
    md5: str
    size: int = attrs.field(metadata=wire_format(NUMBER_IN_STRING))


@attrs.frozen(kw_only=True)
class FileList(Reply):
    """One page of a list of files, ordered by the UTF-8 bytes of their paths; `is_truncated` when there are more."""

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
)
BATCH_DELETE_FILE: Final = Endpoint(
    "/componenttcb/batchdeletefile", DeletedFiles, Repeat.SET, name="batch_delete_file", official="deleteTcbFile"
)
GET_BUCKET: Final = Endpoint("/componenttcb/getbucket", FileList, Repeat.READ, name="get_bucket", official="getTcbFile")

ENDPOINTS: Final = (UPLOAD_FILE_LINK, BATCH_DOWNLOAD_FILE, BATCH_DELETE_FILE, GET_BUCKET)


async def upload_file_link(session: Session, env: str, path: str) -> UploadLink:
    """Get a signed link to write one file at *path*; nothing is stored before its form is posted, within 15 minutes.

    `upload_file` does the whole. Who posts the form alone must not leave out ``x-cos-meta-fileid``: the file would be
    stored, but could never be downloaded by its id.

    Official interface: getUploadFileLink, page cloudbase-batch/file-mgnt/getUploadFileLink.
    """
    check_string("env", env)
    check_string("path", path)
    return await session.call(UPLOAD_FILE_LINK, {"env": env, "path": path})


async def get_bucket(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None, marker: str | None = None
) -> FileList:
    """List files of an environment, one page of at most 1000; `iter_files` turns the pages.

    Only paths that start with *prefix* and come after *marker*, in the order of their UTF-8 bytes. With *delimiter*,
    one character, those that have it after the prefix are left out: the platform groups them, and shows no groups.

    Official interface: getTcbFile, page cloudbase-batch/file-mgnt/getTcbFile.
    """
    check_list_filters(env, prefix=prefix, delimiter=delimiter, marker=marker)
    return await session.call(GET_BUCKET, {"env": env, "prefix": prefix, "delimiter": delimiter, "marker": marker})


def iter_files(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None
) -> AsyncIterator[StoredFile]:
    """Yield the files of an environment, page by page as they are used up; see `get_bucket`."""
    check_list_filters(env, prefix=prefix, delimiter=delimiter)

    async def fetch(marker: str | None) -> tuple[Sequence[StoredFile], bool]:
        page = await get_bucket(session, env, prefix=prefix, delimiter=delimiter, marker=marker)
        return page.contents, page.is_truncated

    return by_marker(GET_BUCKET, fetch, lambda file: file.key)


def check_list_filters(env: str, **filters: str | None) -> None:
    """Refuse what no list of files can be asked for with."""
    check_string("env", env)
    for name, value in filters.items():
        check_type_or_none(name, value, str)
    delimiter = filters.get("delimiter")
    if delimiter is not None and len(delimiter) != 1:
        raise InvalidArgument(f"delimiter must be one character, not {delimiter!r}")


async def batch_download_file(session: Session, env: str, files: Iterable[FileLinkRequest]) -> FileLinks:
    """Get links to files; any number of them, asked for 50 at a time, in their order.

    `download_file` does the whole. Raises `PartialFailure` once, for all, when some files have no link, with every
    entry in ``.reply.file_list``; those that an answer does not name have status None. An error of a call after others
    were answered is its ``.cause``: the files of that call and of those not made have status None too. When the first
    call fails, its error is raised as it is.

    Official interface: getDownloadFileLink, page cloudbase-batch/file-mgnt/getDownloadFileLink.
    """
    check_string("env", env)
    wanted = to_tuple(files)
    check_list_of("files", wanted, FileLinkRequest)
    check_not_empty("files", wanted)

    def join(replies: Sequence[FileLinks]) -> FileLinks:
        answered = (link for reply in replies for link in reply.file_list)
        return FileLinks(file_list=_in_requested_order([each.file_id for each in wanted], answered, FileLink))

    return await _call_in_batches(
        session, BATCH_DOWNLOAD_FILE, wanted, lambda part: {"env": env, "file_list": part}, join
    )


async def batch_delete_file(session: Session, env: str, file_ids: Iterable[str]) -> DeletedFiles:
    """Delete files by their ids; any number of them, 50 at a time, in their order.

    Raises `PartialFailure` as `batch_download_file` does; a file with status None may be deleted, or not. Deleting
    again does no harm, but files that are gone, also by an attempt whose answer was lost, may be told as not existing.

    Official interface: deleteTcbFile, page cloudbase-batch/file-mgnt/deleteTcbFile.
    """
    check_string("env", env)
    ids = to_str_tuple(file_ids)
    check_strings("file_ids", ids)
    check_not_empty("file_ids", ids)

    def join(replies: Sequence[DeletedFiles]) -> DeletedFiles:
        answered = (file for reply in replies for file in reply.delete_list)
        return DeletedFiles(delete_list=_in_requested_order(ids, answered, DeletedFile))

    return await _call_in_batches(session, BATCH_DELETE_FILE, ids, lambda part: {"env": env, "fileid_list": part}, join)


async def _call_in_batches(
    session: Session,
    endpoint: Endpoint[R],
    items: Sequence[A],
    build_body: Callable[[Sequence[A]], Mapping[str, object]],
    merge: Callable[[Sequence[R]], R],
) -> R:
    """Make the call for all items, and join its replies."""
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
    whole = _merge_replies(replies, merge(replies))
    if cause or (whole.failed and session.partial == "raise"):
        raise PartialFailure(whole, whole.failed, endpoint=endpoint.path, cause=cause)
    return whole


class _HasFileId(Protocol):
    @property
    def file_id(self) -> str: ...


def _in_requested_order(file_ids: Iterable[str], results: Iterable[E], make_missing: Callable[..., E]) -> tuple[E, ...]:
    """Return an entry for each file, in the order of *file_ids*, whatever the order of the answers.

    A file that is named several times takes its answers in turn; one that no answer is left for shares the last.
    """
    entries: dict[str, deque[E]] = defaultdict(deque)
    for entry in results:
        entries[entry.file_id].append(entry)

    def take(file_id: str) -> E:
        if file_id not in entries:
            return make_missing(file_id=file_id)
        known = entries[file_id]
        return known.popleft() if len(known) > 1 else known[0]

    return tuple(map(take, file_ids))


def _merge_replies(replies: Sequence[R], merged: R) -> R:
    """Write on the joined reply what stands on its parts, of which one alone is the whole."""
    if len(replies) == 1 and merged == replies[0]:
        return replies[0]
    told: dict[str, object] = {}
    for reply in replies:
        for name, value in raw(reply).items():
            known = told.get(name)
            told[name] = known + value if isinstance(known, list) and isinstance(value, list) else value
    return attach_metadata(merged, raw=orjson.dumps(told), maybe_acted=sum(reply.maybe_acted for reply in replies))
