"""Cloud functions: deploy, list, wait, trigger, invoke (official group: cloudbase-batch/scf-mgnt)."""

from wxtcb.api.functions import deployment, invocation, listing, triggers
from wxtcb.api.functions.deployment import (
    BATCH_UPLOAD_SCF as BATCH_UPLOAD_SCF,
    BATCH_UPLOAD_SCF_CODE as BATCH_UPLOAD_SCF_CODE,
    DELETE_SCF as DELETE_SCF,
    UPDATE_SCF_CONFIG as UPDATE_SCF_CONFIG,
    EnvFailure as EnvFailure,
    FunctionConfig as FunctionConfig,
    FunctionVpc as FunctionVpc,
    MultiEnvResult as MultiEnvResult,
    PublicNet as PublicNet,
    Switch as Switch,
    batch_upload_scf as batch_upload_scf,
    batch_upload_scf_code as batch_upload_scf_code,
    delete_scf as delete_scf,
    update_scf_config as update_scf_config,
)
from wxtcb.api.functions.invocation import (
    INVOKE_CLOUD_FUNCTION as INVOKE_CLOUD_FUNCTION,
    FunctionEvent as FunctionEvent,
    InvocationResult as InvocationResult,
    invoke_cloud_function as invoke_cloud_function,
)
from wxtcb.api.functions.listing import (
    GET_SCF_LIST as GET_SCF_LIST,
    Function as Function,
    FunctionList as FunctionList,
    StatusReason as StatusReason,
    get_scf_list as get_scf_list,
    iter_functions as iter_functions,
    wait_until_active as wait_until_active,
)
from wxtcb.api.functions.packaging import (
    DEFAULT_EXCLUDES as DEFAULT_EXCLUDES,
    MAX_ZIP_BYTES as MAX_ZIP_BYTES,
    Code as Code,
    pack as pack,
)
from wxtcb.api.functions.triggers import (
    BATCH_UPDATE_TRIGGERS as BATCH_UPDATE_TRIGGERS,
    GET_TRIGGERS as GET_TRIGGERS,
    Trigger as Trigger,
    TriggerInfo as TriggerInfo,
    Triggers as Triggers,
    batch_update_triggers as batch_update_triggers,
    get_triggers as get_triggers,
)

ENDPOINTS = (*deployment.ENDPOINTS, *listing.ENDPOINTS, *triggers.ENDPOINTS, *invocation.ENDPOINTS)
