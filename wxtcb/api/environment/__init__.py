"""Cloud environments: open, list, share, wait (official group: cloudbase-batch/env-mgnt)."""

from __future__ import annotations

from typing import Final

from wxtcb.api.environment.access_token import (
    USE_CLOUD_ACCESS_TOKEN_GET,
    USE_CLOUD_ACCESS_TOKEN_SET,
    CloudAccess,
    use_cloud_access_token_get,
    use_cloud_access_token_set,
)
from wxtcb.api.environment.environments import (
    CREATE_ENV,
    DESCRIBE_ENVS,
    MODIFY_ENV,
    EnvInfo,
    EnvList,
    NewEnv,
    create_env,
    describe_envs,
    env_normal,
    modify_env,
    wait_until_normal,
)
from wxtcb.api.environment.sharing import (
    BATCH_GET_ENV_ID,
    BATCH_SHARE_ENV,
    BATCH_UNSHARE_ENV,
    Relation,
    RelationFailure,
    Relations,
    Share,
    ShareFailure,
    ShareLink,
    ShareResult,
    UnshareResult,
    batch_get_env_id,
    batch_share_env,
    batch_unshare_env,
)

__all__ = [
    "BATCH_GET_ENV_ID",
    "BATCH_SHARE_ENV",
    "BATCH_UNSHARE_ENV",
    "CREATE_ENV",
    "DESCRIBE_ENVS",
    "ENDPOINTS",
    "MODIFY_ENV",
    "USE_CLOUD_ACCESS_TOKEN_GET",
    "USE_CLOUD_ACCESS_TOKEN_SET",
    "CloudAccess",
    "EnvInfo",
    "EnvList",
    "NewEnv",
    "Relation",
    "RelationFailure",
    "Relations",
    "Share",
    "ShareFailure",
    "ShareLink",
    "ShareResult",
    "UnshareResult",
    "batch_get_env_id",
    "batch_share_env",
    "batch_unshare_env",
    "create_env",
    "describe_envs",
    "env_normal",
    "modify_env",
    "use_cloud_access_token_get",
    "use_cloud_access_token_set",
    "wait_until_normal",
]

ENDPOINTS: Final = (
    CREATE_ENV,
    DESCRIBE_ENVS,
    MODIFY_ENV,
    USE_CLOUD_ACCESS_TOKEN_GET,
    USE_CLOUD_ACCESS_TOKEN_SET,
    BATCH_SHARE_ENV,
    BATCH_UNSHARE_ENV,
    BATCH_GET_ENV_ID,
)
