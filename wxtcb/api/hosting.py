"""Static website of an environment (official group: cloudbase-batch/staticstore-management)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import attrs

from wxtcb._object_storage.body import UploadData, open_source
from wxtcb._object_storage.upload import UploadRequest, UploadTarget, upload
from wxtcb._protocol.endpoint import Done, Endpoint, Repeat, Reply
from wxtcb._protocol.fields import aliases, interned, wire_name
from wxtcb._protocol.limits import LIMITS
from wxtcb.api._pagination import by_marker
from wxtcb.api._transfer import check_delimiter, guess_content_type, is_stored, require_usable_link
from wxtcb.api._waiters import WaitCondition, wait_until
from wxtcb.api.storage import FileList, StoredFile
from wxtcb.secret import Secret

if TYPE_CHECKING:
    from wxtcb.session import Session

__all__ = [
    "CREATE_STATIC_STORE",
    "DESCRIBE_STATIC_STORE",
    "ENDPOINTS",
    "STATIC_FILE_LIST",
    "STATIC_UPLOAD_FILE",
    "StaticStore",
    "StaticStores",
    "StaticUploadLink",
    "UploadedStaticFile",
    "create_static_store",
    "describe_static_store",
    "iter_files",
    "static_file_list",
    "static_upload_file",
    "upload_file",
    "wait_until_online",
]


@attrs.frozen(kw_only=True)
class StaticStore:
    """The static website of an environment: its `domain`, the bucket of its files, and its status.

    `status` is init or process (not yet usable), online, offline or destroying; at run time it may be another text.
    """

    env: str
    domain: str
    bucket: str
    # "regoin" is the platform's spelling; "region" is accepted in case it is corrected.
    region: str = attrs.field(metadata=wire_name("regoin") | aliases("region"))
    status: Literal["init", "process", "online", "offline", "destroying"] = attrs.field(metadata=interned())


@attrs.frozen(kw_only=True)
class StaticStores(Reply):
    """The static websites of an environment: one, or none if it was not turned on."""

    # The table of the page says data, its sample Data.
    data: tuple[StaticStore, ...] = attrs.field(default=(), metadata=wire_name("Data") | aliases("data"))


@attrs.frozen(kw_only=True)
class StaticUploadLink(Reply):
    """Signed link for a PUT of one file of a website, and the value of its header ``x-cos-security-token``.

    `signed_url` is already percent-encoded; the object storage rejects it in any other form.
    """

    keeps_raw: ClassVar[bool] = False

    signed_url: Secret
    token: Secret


@attrs.frozen(kw_only=True)
class UploadedStaticFile:
    """A stored file of a website: its path on the site, and its `size` in bytes."""

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
    max_reply_bytes=LIMITS.list_reply_bytes,
)
STATIC_FILE_LIST: Final = Endpoint(
    "/componenttcb/staticfilelist",
    FileList,
    Repeat.READ,
    name="static_file_list",
    official="getStaticStoreFile",
    max_reply_bytes=LIMITS.list_reply_bytes,
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
    """Turn on the static website of an environment; it is set up in the background: call `wait_until_online`.

    Raises `OutcomeUnknown` if the reply was lost: check with `describe_static_store` before you retry.
    Official interface: createStaticStore, page cloudbase-batch/staticstore-management/createStaticStore.
    """
    return await session.call(CREATE_STATIC_STORE, {"env": env})


async def describe_static_store(session: Session, env: str) -> StaticStores:
    """Return the static website of an environment and its status, or an empty list if it was not turned on.

    Official interface: getStaticStore, page cloudbase-batch/staticstore-management/getStaticStore.
    """
    return await session.call(DESCRIBE_STATIC_STORE, {"env": env})


async def static_file_list(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None, marker: str | None = None
) -> FileList:
    """Return one page of at most 1000 files of a website; the arguments are those of `storage.get_bucket`.

    `iter_files` iterates over all pages.
    Official interface: getStaticStoreFile, page cloudbase-batch/staticstore-management/getStaticStoreFile.
    """
    check_delimiter(delimiter)
    return await session.call(
        STATIC_FILE_LIST, {"env": env, "prefix": prefix, "delimiter": delimiter, "marker": marker}
    )


async def static_upload_file(session: Session, env: str, filename: str) -> StaticUploadLink:
    """Return a signed link for a PUT of one file of the website; the link is valid for 60 seconds.

    `upload_file` gets the link and uploads the file.
    Official interface: getUploadStaticStoreFile, page cloudbase-batch/staticstore-management/getUploadStaticStoreFile.
    """
    return await session.call(STATIC_UPLOAD_FILE, {"env": env, "filename": filename})


def iter_files(
    session: Session, env: str, *, prefix: str | None = None, delimiter: str | None = None
) -> AsyncIterator[StoredFile]:
    """Iterate over the files of a website, fetching a page when it is needed; see `storage.get_bucket`."""
    check_delimiter(delimiter)

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
    """Upload *source* as the file *filename* of the website, replacing an existing one.

    The content type, which browsers use, is derived from the name. The other arguments, and the errors, are as in
    `storage.upload_file`. The link is valid for 60 seconds; the upload must only begin within this time. Uses the
    official interface getUploadStaticStoreFile.
    """

    async def get_link() -> StaticUploadLink:
        link = await static_upload_file(session, env, filename)
        require_usable_link(session, STATIC_UPLOAD_FILE, link.signed_url, link.token)
        return link

    # The slot comes first: the short-lived link is requested only when the upload may begin.
    async with session.storage_client.slot(), open_source(source, size) as opened:
        request = UploadRequest(
            label=f"upload of {filename!r}",
            content_type=guess_content_type(filename),
            get_link=get_link,
            target_of=lambda link: UploadTarget("PUT", link.signed_url, {"x-cos-security-token": link.token}),
            check_stored=partial(is_stored, partial(static_file_list, session, env, prefix=filename), filename),
            retry_policy=session.retry,
            progress=progress,
        )
        await upload(session.storage_client, opened, request)
        return UploadedStaticFile(filename=filename, size=opened.size)


async def wait_until_online(
    session: Session, env: str, *, timeout: float = 600.0, interval: float = 5.0
) -> StaticStore:
    """Wait until the website of environment *env* is online, and return it; waiters do not share their polls.

    init, process and unknown statuses keep waiting, and so does a poll with a transient error. Raises
    `OperationTimeout` after *timeout* seconds, `OperationFailed` for offline and destroying, and `OperationNotFound` if
    there was no website in at least 3 polls in a row over 30 seconds.
    """
    condition = WaitCondition[StaticStores, StaticStore](
        resource=f"static website of {env}",
        find=lambda reply: next((store for store in reply.data if store.env == env), None),
        status_of=lambda store: store.status,
        ready_statuses=frozenset({"online"}),
        failure_statuses={
            "offline": "it was turned off; see the console of the environment",
            "destroying": "it is being removed",
        },
    )
    poller = session.poller(partial(describe_static_store, session, env))
    return await wait_until(poller, condition, timeout=timeout, interval=interval)
