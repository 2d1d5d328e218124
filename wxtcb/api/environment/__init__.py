"""Environments of cloud development: create, list, wait, share (official group: cloudbase-batch/env-mgnt)."""

from wxtcb.api.environment import access_token, environments, sharing
from wxtcb.api.environment.access_token import (
    USE_CLOUD_ACCESS_TOKEN_GET as USE_CLOUD_ACCESS_TOKEN_GET,
    USE_CLOUD_ACCESS_TOKEN_SET as USE_CLOUD_ACCESS_TOKEN_SET,
    CloudAccess as CloudAccess,
    use_cloud_access_token_get as use_cloud_access_token_get,
    use_cloud_access_token_set as use_cloud_access_token_set,
)
from wxtcb.api.environment.environments import (
    CREATE_ENV as CREATE_ENV,
    DESCRIBE_ENVS as DESCRIBE_ENVS,
    MODIFY_ENV as MODIFY_ENV,
    EnvInfo as EnvInfo,
    EnvList as EnvList,
    NewEnv as NewEnv,
    create_env as create_env,
    describe_envs as describe_envs,
    modify_env as modify_env,
    wait_until_normal as wait_until_normal,
)
from wxtcb.api.environment.sharing import (
    BATCH_GET_ENV_ID as BATCH_GET_ENV_ID,
    BATCH_SHARE_ENV as BATCH_SHARE_ENV,
    BATCH_UNSHARE_ENV as BATCH_UNSHARE_ENV,
    Relation as Relation,
    RelationFailure as RelationFailure,
    Relations as Relations,
    Share as Share,
    ShareFailure as ShareFailure,
    ShareLink as ShareLink,
    ShareResult as ShareResult,
    UnshareResult as UnshareResult,
    batch_get_env_id as batch_get_env_id,
    batch_share_env as batch_share_env,
    batch_unshare_env as batch_unshare_env,
)

ENDPOINTS = (*environments.ENDPOINTS, *access_token.ENDPOINTS, *sharing.ENDPOINTS)
