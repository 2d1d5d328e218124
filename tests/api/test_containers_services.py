"""Container services: hosting, services, and their paged list."""

from __future__ import annotations

from functools import partial

import attrs
import pytest

import wxtcb
from wxtcb.api import containers
from wxtcb.api.containers import ContainerService, ContainerServices, Vpc

DONE = {"errcode": 0, "errmsg": "ok"}
NETWORK = {"vpc_id": "v", "subnet_ids": ["s-1"], "create_type": 0}


def page(*names, total=None):
    """Return a page of services with these names."""
    return {**DONE, "cslist": [{"server_name": name} for name in names], "total": total}


async def test_limit_and_offset_are_sent(session, platform):
    """The size and offset of a page are sent if they are given, also 0."""
    platform.replies = [{"errcode": 0}]
    await containers.get_cs_list(session, "e-1", limit=5, offset=0)
    assert platform.bodies == [{"env": "e-1", "limit": 5, "offset": 0}]


@pytest.mark.parametrize("reply", [{"errcode": 0}, {"errcode": 0, "cslist": None, "total": None}], ids=str)
async def test_list_of_services_may_be_empty(session, platform, reply):
    """Every field of the reply is optional."""
    platform.replies = [reply]
    assert await containers.get_cs_list(session, "e-1") == ContainerServices()


@pytest.mark.parametrize("page_size", [0, -1], ids=repr)
@pytest.mark.parametrize(
    "iterate",
    [containers.iter_services, partial(containers.iter_versions, service_name="s")],
    ids=["services", "versions"],
)
def test_page_size_must_be_positive(iterate, page_size):
    """A page without entries would look like the last one."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^page_size\b"):
        iterate(None, "e-1", page_size=page_size)


async def test_all_pages_are_iterated(session, platform):
    """The next offset is the number of entries received, and the total ends the list."""
    platform.replies = [page("a", "b", total=3), page("c", total=3)]
    found = [each async for each in containers.iter_services(session, "e-1", page_size=5)]
    assert found == [ContainerService(service_name=name) for name in "abc"]
    assert platform.bodies == [{"env": "e-1", "limit": 5, "offset": offset} for offset in (0, 2)]


async def test_page_is_fetched_when_it_is_needed(session, platform):
    """A caller who stops within a page causes no other request; without a size the platform's default is used."""
    platform.replies = [page("a", "b", total=9)]
    async for each in containers.iter_services(session, "e-1"):
        assert each.service_name == "a"
        break
    assert platform.bodies == [{"env": "e-1", "offset": 0}]


async def test_remark_and_network_are_optional(session, platform):
    """Arguments that are not given are not sent."""
    platform.replies = [DONE]
    await containers.create_container_service(session, "e-1", "s")
    assert platform.bodies == [{"env": "e-1", "service_name": "s"}]


@pytest.mark.parametrize("name", NETWORK)
def test_every_field_of_a_network_is_required(name):
    """Each of the three fields is required."""
    with pytest.raises(TypeError, match=name):
        Vpc(**{key: value for key, value in NETWORK.items() if key != name})


@pytest.mark.parametrize(("name", "value"), [("subnet_ids", []), ("subnet_ids", "s-1"), ("subnet_ids", [""])])
def test_network_needs_a_list_of_subnets(name, value):
    """An empty list, a single string, and an empty id are rejected by field."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Vpc: {name}\b"):
        Vpc(**{**NETWORK, name: value})


@pytest.mark.parametrize("create_type", [0, 1, 2, 3])
async def test_undocumented_create_type_is_sent(session, platform, create_type):
    """The pages name 0 to 2, and a sample sends 3, so all are sent."""
    platform.replies = [DONE]
    vpc = attrs.evolve(Vpc(**NETWORK), create_type=create_type)
    await containers.create_container_service(session, "e", "s", vpc=vpc)
    [body] = platform.bodies
    assert body["vpc"] == {"vpcid": "v", "subnetids": ["s-1"], "create_type": create_type}


@pytest.mark.parametrize("verb", ["open_container_service", "create_container_service"])
async def test_ambiguous_create_is_not_repeated(session, platform, verb):
    """-1000 does not say whether the call took effect, so its outcome is unknown."""
    platform.replies = [{"errcode": -1000, "errmsg": "system error"}]
    arguments = ("e",) if verb == "open_container_service" else ("e", "s")
    with pytest.raises(wxtcb.OutcomeUnknown):
        await getattr(containers, verb)(session, *arguments)
    assert len(platform.sent) == 1
