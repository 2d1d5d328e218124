"""Calls for many files: any number of them, cut at the 50 that the platform takes at a time."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import orjson

from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Endpoint, Reply, attach_metadata
from wxtcb.api.storage.files import BATCH_DELETE_FILE, BATCH_DOWNLOAD_FILE
from wxtcb.api.storage.models import DeletedFile, DeletedFiles, FileLink, FileLinkRequest, FileLinks
from wxtcb.errors import PartialFailure, WxtcbError
from wxtcb.validation import check_list_of, check_not_empty, check_string, check_strings, to_str_tuple, to_tuple

if TYPE_CHECKING:
    from wxtcb.session import Session

A = TypeVar("A")
R = TypeVar("R", bound=Reply)
E = TypeVar("E", bound="_HasFileId")

MAX_FILES_PER_CALL: Final = 50


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
