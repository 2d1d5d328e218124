"""The static website of an environment (official group: cloudbase-batch/staticstore-management)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from wxtcb._object_storage.source import UploadData, open_source
from wxtcb._object_storage.upload import UploadRequest, UploadTarget, upload
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, interned, wire_name
from wxtcb.api._pagination import by_marker
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.api.storage.files import FileList, StoredFile, check_list_filters
from wxtcb.api.storage.transfer import guess_content_type, is_stored, require_usable_link
from wxtcb.secret import Secret
from wxtcb.validation import check_string

if TYPE_CHECKING:
    from wxtcb.session import Session


@attrs.frozen(kw_only=True)
class StaticStore:
    """The static website of an environment: its `domain`, the bucket its files are in, and its status.

    `status` is init or process (not yet), online, offline, destroying, or another text.
    """

    env: str
    domain: str
    bucket: str
    region: str = attrs.field(metadata=wire_name("regoin") | aliases("region"))
    status: str = attrs.field(metadata=interned())


@attrs.frozen(kw_only=True)
class StaticStores(Reply):
    """The static websites of an environment: one, or none where it was not turned on."""

    data: tuple[StaticStore, ...] = attrs.field(default=(), metadata=wire_name("Data") | aliases("data"))


@attrs.frozen(kw_only=True)
class StaticUploadLink(Reply):
    """Where one file of a website may be put to, and the value of the header ``x-cos-security-token`` for that.

    `signed_url` is percent-encoded already; sent in any other form it is refused.
    """

    keeps_raw: ClassVar[bool] = False

    signed_url: Secret
    token: Secret


@attrs.frozen(kw_only=True)
class UploadedStaticFile:
    """A file of a website that is stored: its path on the site, and its `size` in bytes."""

    filename: str
    size: int


CREATE_STATIC_STORE: Final = Endpoint(
    "/componenttcb/createstaticstore", Done, Repeat.ONCE, name="create_static_store", official="createStaticStore"
)
DESCRIBE_STATIC_STORE: Final = Endpoint(
    "/componenttcb/describestaticstore",
    StaticStores,
    Repeat.READ,
    name="describe_static_store",
    official="getStaticStore",
)
STATIC_FILE_LIST: Final = Endpoint(
    "/componenttcb/staticfilelist", FileList, Repeat.READ, name="static_file_list", official="getStaticStoreFile"
)
STATIC_UPLOAD_FILE: Final = Endpoint(
    "/componenttcb/staticuploadfile",
    StaticUploadLink,
    Repeat.READ,
    name="static_upload_file",
    official="getUploadStaticStoreFile",
)

ENDPOINTS: Final = (CREATE_STATIC_STORE, DESCRIBE_STATIC_STORE, STATIC_FILE_LIST, STATIC_UPLOAD_FILE)


async def create_static_store(session: Session, env: str) -> Done:
    """Turn on the static website of an environment, which is delivered afterwards: `wait_until_online`.

    Raises `OutcomeUnknown` when the answer was lost: look with `describe_static_store` before you try again.

    Official interface: createStaticStore, page cloudbase-batch/staticstore-management/createStaticStore.
    """
    check_string("env", env)
    return await session.call(CREATE_STATIC_STORE, {"env": env})


async def describe_static_store(session: Session, env: str) -> StaticStores:
    """Return the static website of an environment and its status; none where it was not turned on.

    Official interface: getStaticStore, page cloudbase-batch/staticstore-management/getStaticStore.
    """
    check_string("env", env)
    return await session.call(DESCRIBE_STATIC_STORE, {"env": env})


async def static_file_list(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None, marker: str | None = None
) -> FileList:
    """List files of a website, one page of at most 1000; the arguments are those of `storage.get_bucket`.

    `iter_files` turns the pages.

    Official interface: getStaticStoreFile, page cloudbase-batch/staticstore-management/getStaticStoreFile.
    """
    check_list_filters(env, prefix=prefix, delimiter=delimiter, marker=marker)
    return await session.call(
        STATIC_FILE_LIST, {"env": env, "prefix": prefix, "delimiter": delimiter, "marker": marker}
    )


async def static_upload_file(session: Session, env: str, filename: str) -> StaticUploadLink:
    """Get a signed link to put one file of the website to; nothing is stored before that, within 60 seconds.

    `upload_file` does the whole.

    Official interface: getUploadStaticStoreFile, page cloudbase-batch/staticstore-management/getUploadStaticStoreFile.
    """
    check_string("env", env)
    check_string("filename", filename)
    return await session.call(STATIC_UPLOAD_FILE, {"env": env, "filename": filename})


def iter_files(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None
) -> AsyncIterator[StoredFile]:
    """Yield the files of a website, page by page as they are used up; see `storage.get_bucket`."""
    check_list_filters(env, prefix=prefix, delimiter=delimiter)

    async def fetch(marker: str | None) -> tuple[Sequence[StoredFile], bool]:
        page = await static_file_list(session, env, prefix=prefix, delimiter=delimiter, marker=marker)
        return page.contents, page.is_truncated

    return by_marker(STATIC_FILE_LIST, fetch, lambda file: file.key)


async def upload_file(
    session: Session,
    env: str,
    filename: str,
    source: UploadData,
    *,
    size: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> UploadedStaticFile:
    """Store *source* as the file *filename* of the website, over one that is there already.

    Its content type, which browsers go by, is that of its name. The rest is as in `storage.upload_file`; the link is
    good for 60 seconds, which only the beginning of the upload must keep to.

    Stands on the official interface getUploadStaticStoreFile.
    """
    check_string("env", env)
    check_string("filename", filename)

    async def ask() -> StaticUploadLink:
        link = await static_upload_file(session, env, filename)
        require_usable_link(session, STATIC_UPLOAD_FILE, link.signed_url, link.token)
        return link

    async with session.storage_client.slot(), open_source(source, size) as opened:
        sending = UploadRequest(
            label=f"upload of {filename!r}",
            content_type=guess_content_type(filename),
            get_link=ask,
            target_of=lambda link: UploadTarget("PUT", link.signed_url, {"x-cos-security-token": link.token}),
            check_stored=partial(is_stored, partial(static_file_list, session, env, prefix=filename), filename),
            retry_policy=session.retry,
            progress=progress,
        )
        await upload(session.storage_client, opened, sending)
        return UploadedStaticFile(filename=filename, size=opened.size)


async def wait_until_online(
    session: Session, env: str, *, timeout: float = 600.0, interval: float = 5.0
) -> StaticStore:
    """Wait until the website of environment *env* is online, and return it; who waits looks for himself alone.

    init, process, and a status that wxtcb does not know, is waiting; so is a look that failed for a reason that may
    pass. Raises `OperationTimeout` after *timeout* seconds, `OperationFailed` at once for offline and destroying,
    `OperationNotFound` when there was no website in three looks in a row or more, for 30 seconds.
    """
    check_string("env", env)
    looks = session.poller(partial(describe_static_store, session, env))
    return await wait_until(looks, _website_online(env), timeout=timeout, interval=interval)


def _website_online(env: str) -> WaitCondition[StaticStores, StaticStore]:
    return WaitCondition(
        resource=f"static website of {env}",
        find=lambda seen: next((store for store in seen.data if store.env == env), None),
        status_of=lambda store: store.status,
        ready_statuses=frozenset({"online"}),
        failure_statuses=_FAILURE_STATUSES,
    )


_FAILURE_STATUSES: Final = {
    "offline": "it was turned off; see the console of the environment",
    "destroying": "it is being removed",
}
