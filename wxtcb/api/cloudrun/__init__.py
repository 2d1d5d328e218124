"""Cloud hosting: environments, services, versions (official group: cloudrun-batch)."""

from wxtcb.api.cloudrun import environments, services, versions
from wxtcb.api.cloudrun.environments import (
    CREATE_CLOUDBASERUN_ENV as CREATE_CLOUDBASERUN_ENV,
    CREATE_CLOUDBASERUN_RES_AUTH as CREATE_CLOUDBASERUN_RES_AUTH,
    DESCRIBE_CLOUDBASERUN_ENVS as DESCRIBE_CLOUDBASERUN_ENVS,
    CustomLogService as CustomLogService,
    Database as Database,
    EnvInfo as EnvInfo,
    EnvList as EnvList,
    FunctionSpace as FunctionSpace,
    LogService as LogService,
    NewEnv as NewEnv,
    StaticStorage as StaticStorage,
    Storage as Storage,
    Tag as Tag,
    create_cloudbaserun_env as create_cloudbaserun_env,
    create_cloudbaserun_res_auth as create_cloudbaserun_res_auth,
    describe_cloudbaserun_envs as describe_cloudbaserun_envs,
    wait_until_databases_running as wait_until_databases_running,
    wait_until_env_normal as wait_until_env_normal,
)
from wxtcb.api.cloudrun.models import (
    Capabilities as Capabilities,
    CodeDetail as CodeDetail,
    EmptyDir as EmptyDir,
    EsInfo as EsInfo,
    ImageInfo as ImageInfo,
    ImageSecretInfo as ImageSecretInfo,
    NfsVolume as NfsVolume,
    PolicyDetail as PolicyDetail,
    RepositoryName as RepositoryName,
    Security as Security,
    ServiceVolume as ServiceVolume,
    ServiceVolumeMount as ServiceVolumeMount,
    SidecarSpec as SidecarSpec,
    VolumeMount as VolumeMount,
)
from wxtcb.api.cloudrun.services import (
    ESTABLISH_CLOUDBASERUN_SERVER as ESTABLISH_CLOUDBASERUN_SERVER,
    Server as Server,
    VpcInfo as VpcInfo,
    establish_cloudbaserun_server as establish_cloudbaserun_server,
)
from wxtcb.api.cloudrun.version_models import (
    Version as Version,
    VersionSettings as VersionSettings,
    VersionUpdate as VersionUpdate,
)
from wxtcb.api.cloudrun.versions import (
    CREATE_CLOUDBASERUN_SERVER_VERSION as CREATE_CLOUDBASERUN_SERVER_VERSION,
    DELETE_CLOUDBASERUN_SERVER_VERSION as DELETE_CLOUDBASERUN_SERVER_VERSION,
    RELEASE_CLOUDBASERUN_VERSION as RELEASE_CLOUDBASERUN_VERSION,
    ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION as ROLL_UPDATE_CLOUDBASERUN_SERVER_VERSION,
    DeploymentResult as DeploymentResult,
    ReleaseResult as ReleaseResult,
    VersionResult as VersionResult,
    create_cloudbaserun_server_version as create_cloudbaserun_server_version,
    delete_cloudbaserun_server_version as delete_cloudbaserun_server_version,
    release_cloudbaserun_version as release_cloudbaserun_version,
    roll_update_cloudbaserun_server_version as roll_update_cloudbaserun_server_version,
)

ENDPOINTS = (*environments.ENDPOINTS, *services.ENDPOINTS, *versions.ENDPOINTS)
