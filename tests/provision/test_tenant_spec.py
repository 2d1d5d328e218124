"""Specifications of tenants: what a journal stores of a submitted tenant."""

from __future__ import annotations

import attrs
import orjson
import pytest
from hypothesis import given, strategies as st

from wxtcb.api.cloudrun import EsInfo, Server, VpcInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Service, Tenant
from wxtcb.provision.journal import JournalError
from wxtcb.provision.tenant import is_valid_name
from wxtcb.provision.tenant_spec import dump_tenant, load_tenant

from .constants import WX1, WX2

SECRET = "pa55word"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name.strip() and is_valid_name(name))
SERVERS = st.builds(
    Server,
    service_name=st.from_regex("[a-z][a-z0-9-]{0,8}[a-z]", fullmatch=True),
    is_public=st.booleans(),
    remark=st.none() | TEXT,
    es_info=st.none()
    | st.builds(EsInfo, port=st.none() | st.integers(0, 65535), password=st.none() | TEXT.filter(bool)),
    log_type=st.sampled_from([None, "es", "cls"]),
    vpc_info=st.none() | st.builds(VpcInfo, vpc_id=TEXT, subnet_ids=st.none() | st.lists(TEXT.filter(str.strip))),
    public_access=st.sampled_from([None, 0, 2]),
)
TENANTS = st.builds(
    Tenant,
    NAMES,
    alias=st.none() | st.from_regex("[a-z][a-zA-Z0-9-]{0,9}", fullmatch=True),
    appids=st.lists(st.sampled_from([WX1, WX2]), unique=True),
    services=st.lists(SERVERS.map(Service), max_size=3, unique_by=lambda service: service.name),
    source_type=st.none() | st.integers(-5, 2**62),
    env=st.none() | TEXT.filter(str.strip),
)


@given(TENANTS)
def test_tenant_survives_a_round_trip(tenant):
    """Whatever a tenant may have is read back, also leading and trailing blanks; equal tenants give equal bytes."""
    spec = dump_tenant(tenant)
    loaded = load_tenant(spec, tenant.name)
    assert loaded == tenant
    assert dump_tenant(loaded) == spec


def test_specification_has_the_fields_of_a_tenants_file():
    """What is not given is left out, and a service without settings is its name."""
    tenant = Tenant("商户", appids=[WX1], services=["api", Server(service_name="web", is_public=True)])
    assert orjson.loads(dump_tenant(tenant)) == {
        "tenant": "商户",
        "appids": [WX1],
        "services": ["api", {"service_name": "web", "is_public": True}],
    }
    assert dump_tenant(Tenant("a")) == b'{"tenant":"a"}'


def with_settings(**fields):
    """Return a tenant whose service has a password, and these settings."""
    es_info = EsInfo(password=SECRET)
    return Tenant("a", services=[Server(**{"service_name": "api", "is_public": False, "es_info": es_info, **fields})])


@pytest.mark.parametrize(
    ("tenant", "problem"),
    [
        (Tenant("a", services=[f"s{number}" for number in range(10_000)]), "more than 10,000 values"),
        (with_settings(remark="x" * 32_768), "longer than 32,767 characters"),
        (with_settings(remark="\ud800"), "cannot be represented in JSON"),
        (with_settings(remark=b"x"), "cannot be represented in JSON"),
        (with_settings(remark=5), "remark: expected str"),
        (with_settings(vpc_info={"vpc_id": "v"}), "a setting of a service has the wrong type"),
        (with_settings(es_info=EsInfo(password="")), "or is an empty password"),
        (Tenant("a", source_type=2**63), "a number is too large"),
    ],
)
def test_tenant_that_cannot_be_stored_is_refused(tenant, problem):
    """The error names the tenant, and quotes no secret."""
    with pytest.raises(InvalidArgument, match="tenant 'a' cannot be submitted") as caught:
        dump_tenant(tenant)
    assert problem in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "spec",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"tenant": "b"}',
        b'{"tenant": "a", "colour": "pa55word"}',
        b'{"tenant": "a", "services": [{"service_name": "s", "es_info": {"password": ["pa55word"]}}]}',
        b'{"tenant": "a", "alias": 5}',
    ],
)
def test_damaged_specification_is_an_error_of_the_journal(spec):
    """The error names the tenant, and quotes no value."""
    with pytest.raises(JournalError, match="tenant 'a'") as caught:
        load_tenant(spec, "a")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("field", ["name", "alias", "env"])
def test_keys_of_a_tenant_are_bounded(field):
    """An index of a database cannot contain longer ones; the message does not repeat the value."""
    fields = {"name": "a", field: "a" * 500}
    assert getattr(Tenant(**fields), field) == "a" * 500
    with pytest.raises(InvalidArgument, match=f"{field} must have at most 500 characters, not 501$"):
        Tenant(**{**fields, field: "a" * 501})


def test_template_of_a_service_has_no_environment():
    """It is what the specification contains."""
    server = Server(env_id="env-1", service_name="api", is_public=True)
    assert Service(server).template == attrs.evolve(server, env_id=Service("api").template.env_id)
