"""Versions of services: deploy, roll over, release, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import wire_fields
from wxtcb.api.cloudrun.version_models import Version, VersionUpdate
from wxtcb.validation import check_string, check_type, check_type_or_none

if TYPE_CHECKING:
    from wxtcb.session import Session

_SUCCESS_RESULTS: Final = frozenset({"", "succ", "success", "creating"})


@attrs.frozen(kw_only=True)
class VersionResult(Reply):
    """What the platform says besides errcode 0: "succ", "success", or "creating" while it goes on.

    Any other `result` is a failure; one that is missing or empty is none.
    """

    result: str | None = None

    @property
    def failed(self) -> Sequence[str]:
        return () if self.result is None or self.result in _SUCCESS_RESULTS else (self.result,)


@attrs.frozen(kw_only=True)
class DeploymentResult(VersionResult):
    """A deployment: `run_id` is its record; `version_name` is None while the `result` is "creating"."""

    version_name: str | None = None
    run_id: str | None = None


@attrs.frozen(kw_only=True)
class ReleaseResult(VersionResult):
    """A release and the number of its order, which no call looks up."""

    release_order_id: int | None = None


CREATE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/createcloudbaserunserverversion",
    DeploymentResult,
    Repeat.ONCE,
    name="create_cloudbaserun_server_version",
    official="createCloudbaseServiceVersion",
)
ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/rollupdatecloudbaserunserverversion",
    DeploymentResult,
    Repeat.ONCE,
    name="roll_update_cloudbaserun_server_version",
    official="updateCloudbaseServiceVersion",
)
DELETE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/deletecloudbaserunserverversion",
    VersionResult,
    Repeat.SET,
    name="delete_cloudbaserun_server_version",
    official="deleteCloudbaseServiceVersion",
)
RELEASE_CLOUDBASERUN_VERSION: Final = Endpoint(
    "/componenttcb/releasecloudbaserunversion",
    ReleaseResult,
    Repeat.ONCE,
    name="release_cloudbaserun_version",
    official="releaseCloudbaseServiceVersion",
)

ENDPOINTS: Final = (
    CREATE_CLOUDBASERUN_SERVER_VERSION,
    ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION,
    RELEASE_CLOUDBASERUN_VERSION,
    DELETE_CLOUDBASERUN_SERVER_VERSION,
)


async def create_cloudbaserun_server_version(session: Session, version: Version) -> DeploymentResult:
    """Build and deploy another version of a service; every success makes one.

    The build may go on afterwards: then `result` is "creating" and there is no `version_name` yet. No call of this
    family tells how it goes on, or lists versions.

    Raises `PartialFailure` when the platform says under errcode 0 that it failed. After `OutcomeUnknown` look into the
    console before you try again: a second version may be there.

    Official interface: createCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/createCloudbaseServiceVersion.
    """
    check_type("version", version, Version)
    return await session.call(CREATE_CLOUDBASERUN_SERVER_VERSION, wire_fields(version))


async def roll_update_cloudbaserun_server_version(session: Session, update: VersionUpdate) -> DeploymentResult:
    """Roll an existing version over to other code, another image or configuration; its replicas are replaced.

    After `OutcomeUnknown` the same update may be sent again: it ends the same, unless a newer one came between, but it
    starts another rollout. Raises `PartialFailure` when the platform says under errcode 0 that it failed.

    Official interface: updateCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/updateCloudbaseServiceVersion.
    """
    check_type("update", update, VersionUpdate)
    return await session.call(ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION, wire_fields(update))


async def delete_cloudbaserun_server_version(
    session: Session,
    *,
    env_id: str,
    service_name: str,
    version_name: str,
    is_delete_server: bool | None = None,
    is_delete_image: bool | None = None,
) -> VersionResult:
    """Delete a version; with its last version a service goes too if *is_delete_server*, and the image if both are True.

    No other call deletes a service. Where an earlier attempt of the same call got through, the platform may refuse the
    next one because the version is not there.

    Official interface: deleteCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/deleteCloudbaseServiceVersion.
    """
    names = {"env_id": env_id, "service_name": service_name, "version_name": version_name}
    flags = {"is_delete_server": is_delete_server, "is_delete_image": is_delete_image}
    for name, text in names.items():
        check_string(name, text)
    for name, flag in flags.items():
        check_type_or_none(name, flag, bool)
    body = {"env_id": env_id, "server_name": service_name, "version_name": version_name, **flags}
    return await session.call(DELETE_CLOUDBASERUN_SERVER_VERSION, body)


async def release_cloudbaserun_version(
    session: Session, *, env_id: str, service_name: str, version_name: str
) -> ReleaseResult:
    """Give one version all traffic of its service; every call opens a release order, which no call looks up.

    Raises `PartialFailure` when the platform says "failed" under errcode 0. After `OutcomeUnknown` it may be sent again
    unless something newer was released since, which that would undo.

    Official interface: releaseCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/releaseCloudbaseServiceVersion.
    """
    for name, text in (("env_id", env_id), ("service_name", service_name), ("version_name", version_name)):
        check_string(name, text)
    body = {"env_id": env_id, "server_name": service_name, "release_version": version_name}
    return await session.call(RELEASE_CLOUDBASERUN_VERSION, body)
