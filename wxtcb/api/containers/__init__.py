"""Container services, the older family of cloud hosting (official group: cloudbase/batch, the old pages)."""

from wxtcb.api.containers import new_versions, services, traffic, versions
from wxtcb.api.containers.new_versions import (
    BATCH_CREATE_CS_VERSION as BATCH_CREATE_CS_VERSION,
    CREATE_CS_VERSION as CREATE_CS_VERSION,
    CodeDetail as CodeDetail,
    CsVersion as CsVersion,
    ImageInfo as ImageInfo,
    ImageSecretInfo as ImageSecretInfo,
    NewCsVersion as NewCsVersion,
    RepositoryName as RepositoryName,
    batch_create_cs_version as batch_create_cs_version,
    create_cs_version as create_cs_version,
)
from wxtcb.api.containers.services import (
    CREATE_CONTAINER_SERVICE as CREATE_CONTAINER_SERVICE,
    DEL_CONTAINER_SERVICE as DEL_CONTAINER_SERVICE,
    GET_CS_LIST as GET_CS_LIST,
    OPEN_CONTAINER_SERVICE as OPEN_CONTAINER_SERVICE,
    ContainerService as ContainerService,
    ContainerServices as ContainerServices,
    Vpc as Vpc,
    create_container_service as create_container_service,
    del_container_service as del_container_service,
    get_cs_list as get_cs_list,
    iter_services as iter_services,
    open_container_service as open_container_service,
)
from wxtcb.api.containers.shared_models import (
    BatchEntry as BatchEntry,
    BatchFailure as BatchFailure,
    BatchResult as BatchResult,
)
from wxtcb.api.containers.traffic import (
    BATCH_SET_CS_PROPOTION as BATCH_SET_CS_PROPOTION,
    SET_CS_PROPOTION as SET_CS_PROPOTION,
    TrafficSplit as TrafficSplit,
    VersionFlow as VersionFlow,
    batch_set_cs_propotion as batch_set_cs_propotion,
    set_cs_propotion as set_cs_propotion,
)
from wxtcb.api.containers.versions import (
    BATCH_DEL_CS_VERSION as BATCH_DEL_CS_VERSION,
    DEL_CS_VERSION as DEL_CS_VERSION,
    GET_CS_VERSION_DETAIL as GET_CS_VERSION_DETAIL,
    GET_CS_VERSION_LIST as GET_CS_VERSION_LIST,
    SET_CS_VERSION_CONFIG as SET_CS_VERSION_CONFIG,
    CsVersionConfig as CsVersionConfig,
    CsVersionDetail as CsVersionDetail,
    CsVersionInfo as CsVersionInfo,
    CsVersionList as CsVersionList,
    VersionRef as VersionRef,
    batch_del_cs_version as batch_del_cs_version,
    del_cs_version as del_cs_version,
    get_cs_version_detail as get_cs_version_detail,
    get_cs_version_list as get_cs_version_list,
    iter_versions as iter_versions,
    set_cs_version_config as set_cs_version_config,
    wait_until_version_normal as wait_until_version_normal,
)

ENDPOINTS = (*services.ENDPOINTS, *new_versions.ENDPOINTS, *versions.ENDPOINTS, *traffic.ENDPOINTS)
