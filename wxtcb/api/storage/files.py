"""The calls of file storage that are one request each, and the list of all of a bucket's files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from wxtcb._protocol.endpoint import Endpoint, Repeat
from wxtcb.api._pagination import by_marker
from wxtcb.api.storage.models import DeletedFiles, FileLinks, FileList, StoredFile, UploadLink
from wxtcb.errors import InvalidArgument
from wxtcb.validation import check_string, check_type_or_none

if TYPE_CHECKING:
    from wxtcb.session import Session

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
