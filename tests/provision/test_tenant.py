"""Tenants, services and derived aliases."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, strategies as st

from wxtcb.api.cloudrun import PLACEHOLDER_ENV_ID, EsInfo, Server, VpcInfo
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Service, Tenant, derive_alias
from wxtcb.provision.tenant import resolve_aliases

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1).filter(str.strip)


def test_derive_alias_is_stable() -> None:
    """The alias is the key of existing environments: every version must derive the same one."""
    assert derive_alias("wx0123456789abcdef", "商户1") == "tnmnnrjlcmxoiqlqp"


@given(NAMES, NAMES)
def test_derived_alias_is_valid(namespace: str, tenant: str) -> None:
    """For any names, the platform accepts the alias, and it has no upper case."""
    alias = derive_alias(namespace, tenant)
    assert Tenant("x", alias=alias).resolve_alias("wx") == alias == alias.lower()
    assert len(alias) == 17


def test_derive_alias_separates_namespace_and_tenant() -> None:
    """Equal concatenations give different aliases, so neither name may contain the NUL that separates them."""
    assert derive_alias("ab", "c") != derive_alias("a", "bc")
    with pytest.raises(InvalidArgument, match=r"tenant .*control"):
        derive_alias("a", "b\0c")
    with pytest.raises(InvalidArgument, match=r"namespace .*control"):
        derive_alias("a\0b", "c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": " "}, "Tenant: name"),
        ({"name": "a\nb"}, "Tenant: name .*control"),
        ({"name": "a", "alias": "A"}, "Tenant: alias"),
        ({"name": "a", "appids": ["wx0123456789abcdef"] * 2}, "Tenant: appids .*'wx0123456789abcdef'"),
        ({"name": "a", "appids": "wx"}, "appids .*list"),
        ({"name": "a", "appids": ["wx0123456789abcdeF"]}, r"Tenant: appids\[0\] .*lower-case"),
        ({"name": "a", "appids": ["wx1,wx2"]}, r"Tenant: appids\[0\] .*16"),
        ({"name": "a", "appids": ["gh_0123456789ab"]}, r"original id \(原始ID\)"),
        ({"name": "a", "appids": [1]}, r"Tenant: appids\[0\] .*16"),
        ({"name": "a", "services": [1]}, r"Tenant: services\[0\] .*Service"),
        ({"name": "a", "services": ["api\uff1bweb"]}, "Service: name .*letter"),
        ({"name": "a", "services": ["接口"]}, "Service: name .*letter"),
        ({"name": "a", "services": ["-api"]}, "Service: name .*letter"),
        ({"name": "a", "services": ["a" * 61]}, "Service: name .*60"),
        ({"name": "a", "services": "api"}, "Tenant: services .*list"),
        ({"name": "a", "services": 3}, "Tenant: services .*list"),
        (
            {"name": "a", "services": [Service.from_name("s"), Service.from_name("s")]},
            "services .*'s'",
        ),
        ({"name": "a", "source_type": "1"}, "Tenant: source_type .*int"),
    ],
)
def test_invalid_tenant_is_rejected(fields: dict[str, object], message: str) -> None:
    """The message names the field that the platform would reject."""
    with pytest.raises(InvalidArgument, match=message):
        Tenant(**fields)


def test_to_server_replaces_only_the_environment() -> None:
    """All other fields of the given server stay, and its password is in no repr."""
    draft = Server(
        env_id="ignored",
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


def test_service_from_name_is_not_public() -> None:
    """A name alone means Server(env_id, name, is_public=False)."""
    assert Service.from_name("api").to_server("e") == Server(env_id="e", service_name="api", is_public=False)
    assert Service.from_name("api") == Service(Server(env_id=PLACEHOLDER_ENV_ID, service_name="api", is_public=False))


def test_service_requires_a_server_or_a_name() -> None:
    """Any other type is rejected."""
    with pytest.raises(InvalidArgument, match=r"Service: server .*Server"):
        Service(1)


def test_entry_of_another_type_is_no_service() -> None:
    """The message has the place, and what a service may be."""
    with pytest.raises(InvalidArgument, match=r"services\[1\] must be a name or a Service, not int$"):
        Tenant("a", services=["web", 7])  # type: ignore[list-item]


def test_services_may_be_names_and_servers() -> None:
    """A name is a service that is not public; a server needs no environment, and one that it has is ignored."""
    draft = Server(service_name="web", is_public=True, remark="备注")
    tenant = Tenant("a", services=["api", draft, Service("worker"), attrs.evolve(draft, env_id="e", service_name="w2")])
    assert tenant.service_names == ("api", "web", "worker", "w2")
    assert tenant.services[0] == Service.from_name("api") == Service("api")
    assert tenant.services[1].to_server("env-1") == attrs.evolve(draft, env_id="env-1")
    assert {service.to_server("e").env_id for service in tenant.services} == {"e"}


@pytest.mark.parametrize("name", ["a", "ss1", "Web_2-b", "a" * 60])
def test_service_name_is_accepted(name: str) -> None:
    """Samples of the platform have names of two letters, and names with digits."""
    assert Service(name).name == name


def test_resolve_aliases_reports_all_duplicates() -> None:
    """Names, aliases that differ in case only, and an alias that equals a derived one are reported."""
    derived = derive_alias("wx", "a")
    tenants = [Tenant("a"), Tenant("a"), Tenant("b", alias="xY"), Tenant("c", alias="xy"), Tenant("d", alias=derived)]
    with pytest.raises(InvalidArgument) as caught:
        resolve_aliases(tenants, "wx")
    first, second, third = str(caught.value).split("; tenant ")
    assert first == "tenant 2: tenant 'a' is duplicated (first at tenant 1)"
    assert second.startswith("4: alias 'xy' of tenant 'c' is already used by tenant 'b' (tenant 3)")
    assert third.startswith(f"5: alias '{derived}' of tenant 'd' is already used by tenant 'a' (tenant 1)")


def test_duplicate_name_does_not_hide_duplicate_alias() -> None:
    """Both are reported; the derived alias of a duplicated name is not reported again."""
    tenants = [Tenant("a", alias="xY"), Tenant("a", alias="xy"), Tenant("b"), Tenant("b"), Tenant("b", alias="xy")]
    with pytest.raises(InvalidArgument) as caught:
        resolve_aliases(tenants, "wx")
    assert [problem.partition(" (")[0] for problem in str(caught.value).split("; tenant ")] == [
        "tenant 2: tenant 'a' is duplicated",
        "2: alias 'xy' of tenant 'a' is already used by tenant 'a'",
        "4: tenant 'b' is duplicated",
        "5: tenant 'b' is duplicated",
        "5: alias 'xy' of tenant 'b' is already used by tenant 'a'",
    ]


def test_resolve_aliases_requires_tenants() -> None:
    """The message has the position of the wrong value."""
    with pytest.raises(InvalidArgument, match=r"tenant 2 .*Tenant"):
        resolve_aliases([Tenant("a"), "b"], "wx")


def test_service_has_name_and_remark() -> None:
    """Plans and lists show them."""
    service = Service(Server(env_id=PLACEHOLDER_ENV_ID, service_name="api", is_public=True, remark="备注"))
    assert (service.name, service.remark, Service.from_name("x").remark) == ("api", "备注", None)
