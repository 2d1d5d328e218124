"""Versions of services: create, update, release, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb._protocol.fields import wire_fields
from wxtcb.api.cloudrun.version_models import Version, VersionUpdate

if TYPE_CHECKING:
    from wxtcb.session import Session

# The pages spell success in two ways, and some replies have no result.
_SUCCESS_RESULTS: Final = frozenset({"", "succ", "success", "creating"})


@attrs.frozen(kw_only=True)
class VersionResult(Reply):
    """Result next to errcode 0: "succ", "success", or "creating" while the build is running.

    Any other `result` is a failure; a missing or empty one is a success.
    """

    result: str | None = None

    @property
    def failed(self) -> Sequence[str]:
        return () if self.result is None or self.result in _SUCCESS_RESULTS else (self.result,)


@attrs.frozen(kw_only=True)
class DeploymentResult(VersionResult):
    """A deployment; `run_id` is its record, `version_name` is None while `result` is "creating"."""

    version_name: str | None = None
    run_id: str | None = None


@attrs.frozen(kw_only=True)
class ReleaseResult(VersionResult):
    """A release and the id of its order; no call returns the state of the order."""

    release_order_id: int | None = None


CREATE_CLOUDBASERUN_SERVER_VERSION: Final = Endpoint(
    "/componenttcb/createcloudbaserunserverversion",
    DeploymentResult,
    Repeat.ONCE,
    name="create_cloudbaserun_server_version",
    official="createCloudbaseServiceVersion",
)
# Update and release are not SET: a late repeat would undo a newer update or release.
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
    """Build and deploy a new version of a service; every success creates another version.

    The build may continue in the background: then `result` is "creating" and `version_name` is None. No call of this
    family returns its progress, or lists versions.

    Raises `PartialFailure` if the platform reports a failure under errcode 0. After `OutcomeUnknown`, check in the
    console before you retry: the version may exist.

    Official interface: createCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/createCloudbaseServiceVersion.
    """
    return await session.call(CREATE_CLOUDBASERUN_SERVER_VERSION, wire_fields(version))


async def roll_update_cloudbaserun_server_version(session: Session, update: VersionUpdate) -> DeploymentResult:
    """Update an existing version to other code, another image or another configuration; its replicas are replaced.

    After `OutcomeUnknown`, the same update may be sent again: the result is the same unless a newer update came
    between, but it starts another rollout. Raises `PartialFailure` if the platform reports a failure under errcode 0.

    Official interface: updateCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/updateCloudbaseServiceVersion.
    """
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
    """Delete a version, and optionally its service and its image.

    If *is_delete_server*, the service is deleted with its last version; if also *is_delete_image*, the image too. No
    other call deletes a service. A retry after a lost reply may be rejected because the version is already deleted.

    Official interface: deleteCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/deleteCloudbaseServiceVersion.
    """
    body = {
        "env_id": env_id,
        "server_name": service_name,
        "version_name": version_name,
        "is_delete_server": is_delete_server,
        "is_delete_image": is_delete_image,
    }
    return await session.call(DELETE_CLOUDBASERUN_SERVER_VERSION, body)


async def release_cloudbaserun_version(
    session: Session, *, env_id: str, service_name: str, version_name: str
) -> ReleaseResult:
    """Give one version all traffic of its service; every call creates a release order, whose state no call returns.

    Raises `PartialFailure` if the platform reports "failed" under errcode 0. After `OutcomeUnknown`, it may be sent
    again unless a newer version was released since, which a retry would undo.

    Official interface: releaseCloudbaseServiceVersion, page cloudrun-batch/service-mgnt/releaseCloudbaseServiceVersion.
    """
    body = {"env_id": env_id, "server_name": service_name, "release_version": version_name}
    return await session.call(RELEASE_CLOUDBASERUN_VERSION, body)
