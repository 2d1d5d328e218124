"""Cloud functions: deploy, list, wait, start (official group: cloudbase-batch/scf-mgnt)."""

from __future__ import annotations

from typing import Final

from wxtcb.api.functions.deployment import (
    BATCH_UPLOAD_SCF,
    BATCH_UPLOAD_SCF_CODE,
    DELETE_SCF,
    UPDATE_SCF_CONFIG,
    EnvFailure,
    FunctionConfig,
    FunctionVpc,
    MultiEnvResult,
    PublicNet,
    Switch,
    batch_upload_scf,
    batch_upload_scf_code,
    delete_scf,
    update_scf_config,
)
from wxtcb.api.functions.invocation import INVOKE_CLOUD_FUNCTION, FunctionEvent, InvocationResult, invoke_cloud_function
from wxtcb.api.functions.listing import (
    GET_SCF_LIST,
    Function,
    FunctionList,
    StatusReason,
    get_scf_list,
    iter_functions,
    wait_until_active,
)
from wxtcb.api.functions.packaging import DEFAULT_EXCLUDES, MAX_ZIP_BYTES, Code, pack
from wxtcb.api.functions.triggers import (
    BATCH_UPDATE_TRIGGERS,
    GET_TRIGGERS,
    Trigger,
    TriggerInfo,
    Triggers,
    batch_update_triggers,
    get_triggers,
)

__all__ = [
    "BATCH_UPDATE_TRIGGERS",
    "BATCH_UPLOAD_SCF",
    "BATCH_UPLOAD_SCF_CODE",
    "DEFAULT_EXCLUDES",
    "DELETE_SCF",
    "ENDPOINTS",
    "GET_SCF_LIST",
    "GET_TRIGGERS",
    "INVOKE_CLOUD_FUNCTION",
    "MAX_ZIP_BYTES",
    "UPDATE_SCF_CONFIG",
    "Code",
    "EnvFailure",
    "Function",
    "FunctionConfig",
    "FunctionEvent",
    "FunctionList",
    "FunctionVpc",
    "InvocationResult",
    "MultiEnvResult",
    "PublicNet",
    "StatusReason",
    "Switch",
    "Trigger",
    "TriggerInfo",
    "Triggers",
    "batch_update_triggers",
    "batch_upload_scf",
    "batch_upload_scf_code",
    "delete_scf",
    "get_scf_list",
    "get_triggers",
    "invoke_cloud_function",
    "iter_functions",
    "pack",
    "update_scf_config",
    "wait_until_active",
]

ENDPOINTS: Final = (
    BATCH_UPLOAD_SCF,
    BATCH_UPLOAD_SCF_CODE,
    UPDATE_SCF_CONFIG,
    DELETE_SCF,
    GET_SCF_LIST,
    GET_TRIGGERS,
    BATCH_UPDATE_TRIGGERS,
    INVOKE_CLOUD_FUNCTION,
)
