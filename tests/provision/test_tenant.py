"""Tenants and services as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wxtcb.api.cloudrun import EsInfo, Server, VpcInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Service, Tenant, derive_alias
from wxtcb.provision.tenant import PLACEHOLDER_ENV_ID, resolve_aliases

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip)


def test_a_derived_alias_never_changes() -> None:
    """This value is the key of environments that exist: it must be the same in every version."""
    assert derive_alias("wx0123456789abcdef", "商户1") == "tnmnnrjlcmxoiqlqp"


@given(NAMES, NAMES)
def test_a_derived_alias_follows_the_rule(namespace: str, tenant: str) -> None:
    """Whatever the names, the platform takes the alias, and it has no upper case to be confused by."""
    alias = derive_alias(namespace, tenant)
    assert Tenant("x", alias=alias).resolve_alias("wx") == alias == alias.lower()
    assert len(alias) == 17


def test_names_cannot_be_shifted_between_namespace_and_tenant() -> None:
    """The NUL between the two keeps equal texts apart, so no name may hold one."""
    assert derive_alias("ab", "c") != derive_alias("a", "bc")
    with pytest.raises(InvalidArgument, match="tenant must hold no control characters"):
        derive_alias("a", "b\0c")
    with pytest.raises(InvalidArgument, match="namespace must hold no control characters"):
        derive_alias("a\0b", "c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " "}, "Tenant: name must be a text"),
        ({"name": "a\nb"}, "Tenant: name must hold no control characters"),
        ({"name": "a", "alias": "A"}, "Tenant: alias must start with a-z"),
        ({"name": "a", "appids": ["x", "x"]}, "Tenant: appids holds 'x' more than once"),
        ({"name": "a", "appids": "wx"}, "must be a list"),
        ({"name": "a", "services": ["api"]}, r"Tenant: services\[0\] must be Service"),
        ({"name": "a", "services": "api"}, "Tenant: services must be a list"),
        ({"name": "a", "services": 3}, "Tenant: services must be a list"),
        (
            {"name": "a", "services": [Service.from_name("s"), Service.from_name("s")]},
            "services holds 's' more than once",
        ),
        ({"name": "a", "source_type": "1"}, "Tenant: source_type must be int"),
    ],
)
def test_a_tenant_is_checked_when_it_is_made(fields: dict[str, object], message: str) -> None:
    """What the platform would refuse, or what makes no sense, is refused by field."""
    with pytest.raises(InvalidArgument, match=message):
        Tenant(**fields)


def test_a_service_keeps_every_field_but_the_environment() -> None:
    """The server to establish is the draft with the environment's id in it."""
    draft = Server(
        env_id="whatever",
        service_name="api",
        is_public=True,
        es_info=EsInfo(id=1, password="pw"),
        vpc_info=VpcInfo(subnet_ids=["s-1"]),
    )
    service = Service(draft)
    server = service.to_server("env-1")
    assert (server.env_id, server.service_name, server.is_public) == ("env-1", "api", True)
    assert (server.es_info, server.vpc_info) == (draft.es_info, draft.vpc_info)
    assert "pw" not in repr(service)


def test_a_service_by_name_is_closed_and_plain() -> None:
    """A name alone means Server(env_id, name, is_public=False)."""
    assert Service.from_name("api").to_server("e") == Server(env_id="e", service_name="api", is_public=False)
    assert Service.from_name("api") == Service(Server(env_id=PLACEHOLDER_ENV_ID, service_name="api", is_public=False))


def test_a_service_is_made_of_a_server() -> None:
    """Anything else is refused by name."""
    with pytest.raises(InvalidArgument, match="Service: server must be Server"):
        Service("api")


def test_all_doubles_are_told_at_once() -> None:
    """Names, aliases equal but for case, and a given alias that is another's derived one."""
    derived = derive_alias("wx", "a")
    tenants = [Tenant("a"), Tenant("a"), Tenant("b", alias="xY"), Tenant("c", alias="xy"), Tenant("d", alias=derived)]
    with pytest.raises(InvalidArgument) as caught:
        resolve_aliases(tenants, "wx")
    first, second, third = str(caught.value).split("; tenant ")
    assert first == "tenant 2: tenant 'a' is there already (tenant 1)"
    assert second.startswith("4: alias 'xy' of tenant 'c' is that of tenant 'b' already (tenant 3)")
    assert third.startswith(f"5: alias '{derived}' of tenant 'd' is that of tenant 'a' already (tenant 1)")


def test_a_tenant_given_twice_hides_no_alias_given_twice() -> None:
    """Both are told, also where the aliases are those of the same tenant; a derived one is no further problem."""
    tenants = [Tenant("a", alias="xY"), Tenant("a", alias="xy"), Tenant("b"), Tenant("b"), Tenant("b", alias="xy")]
    with pytest.raises(InvalidArgument) as caught:
        resolve_aliases(tenants, "wx")
    assert [problem.partition(" already")[0] for problem in str(caught.value).split("; tenant ")] == [
        "tenant 2: tenant 'a' is there",
        "2: alias 'xy' of tenant 'a' is that of tenant 'a'",
        "4: tenant 'b' is there",
        "5: tenant 'b' is there",
        "5: alias 'xy' of tenant 'b' is that of tenant 'a'",
    ]


def test_only_tenants_are_tenants() -> None:
    """The place of what is none is named."""
    with pytest.raises(InvalidArgument, match="tenant 2 must be Tenant"):
        resolve_aliases([Tenant("a"), "b"], "wx")


def test_a_service_tells_its_name_and_remark() -> None:
    """For plans and lists."""
    service = Service(Server(env_id=PLACEHOLDER_ENV_ID, service_name="api", is_public=True, remark="备注"))
    assert (service.name, service.remark, Service.from_name("x").remark) == ("api", "备注", None)
