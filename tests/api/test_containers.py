"""Container services: hosting, services, and their list, page by page."""

from __future__ import annotations

import itertools
from functools import partial

import attrs
import pytest

import wxtcb
from wxtcb.api import containers
from wxtcb.api.containers import ContainerService, ContainerServices, Vpc

DONE = {"errcode": 0, "errmsg": "ok"}
NETWORK = {"vpc_id": "v", "subnet_ids": ["s-1"], "create_type": 0}


def page(*names, total=None):
    """Make a page of services with these names."""
    return {**DONE, "cslist": [{"server_name": name} for name in names], "total": total}


async def test_a_page_is_asked_for_as_documented(session, platform):
    """Size and offset of the page are sent when given, 0 too."""
    platform.replies = [{"errcode": 0}]
    await containers.get_cs_list(session, "e-1", limit=5, offset=0)
    assert platform.bodies == [{"env": "e-1", "limit": 5, "offset": 0}]


@pytest.mark.parametrize("reply", [{"errcode": 0}, {"errcode": 0, "cslist": None, "total": None}], ids=str)
async def test_an_environment_may_have_no_services(session, platform, reply):
    """No field of the reply is promised."""
    platform.replies = [reply]
    assert await containers.get_cs_list(session, "e-1") == ContainerServices()


@pytest.mark.parametrize(
    ("env", "options", "name"),
    [
        ("", {}, "env"),
        (None, {}, "env"),
        (5, {}, "env"),
        ("e-1", {"limit": "5"}, "limit"),
        ("e-1", {"limit": True}, "limit"),
        ("e-1", {"offset": 1.0}, "offset"),
    ],
    ids=str,
)
async def test_arguments_of_a_page_are_checked_before_anything_is_sent(session, platform, env, options, name):
    """What is no text or no whole number is refused by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name} must be"):
        await containers.get_cs_list(session, env, **options)
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize("page_size", [0, -1, True, "5"], ids=repr)
@pytest.mark.parametrize(
    "iterate",
    [containers.iter_services, partial(containers.iter_versions, service_name="s")],
    ids=["services", "versions"],
)
def test_a_page_without_entries_is_refused(iterate, page_size):
    """It would look like the last one: the list would be empty, whatever there is."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^page_size must be a whole number above 0"):
        iterate(None, "e-1", page_size=page_size)


async def test_all_services_are_gone_through_page_by_page(session, platform):
    """The next page begins after as many as came, whatever was asked for, and ends with the last of all."""
    platform.replies = [page("a", "b", total=3), page("c", total=3)]
    found = [each async for each in containers.iter_services(session, "e-1", page_size=5)]
    assert found == [ContainerService(service_name=name) for name in "abc"]
    assert platform.bodies == [{"env": "e-1", "limit": 5, "offset": offset} for offset in (0, 2)]


async def test_a_page_is_not_asked_for_before_it_is_needed(session, platform):
    """Who stops within a page has paid for no other, and the size of a page is the platform's unless given."""
    platform.replies = [page("a", "b", total=9)]
    async for each in containers.iter_services(session, "e-1"):
        assert each.service_name == "a"
        break
    assert platform.bodies == [{"env": "e-1", "offset": 0}]


async def test_a_service_needs_neither_remark_nor_network(session, platform):
    """What is not given is not sent."""
    platform.replies = [DONE]
    await containers.create_container_service(session, "e-1", "s")
    assert platform.bodies == [{"env": "e-1", "service_name": "s"}]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda session: containers.open_container_service(session, ""), "env"),
        (lambda session: containers.create_container_service(session, " ", "s"), "env"),
        (lambda session: containers.create_container_service(session, "e", 5), "service_name"),
        (lambda session: containers.create_container_service(session, "e", "s", remark=5), "remark"),
        (lambda session: containers.create_container_service(session, "e", "s", vpc={"vpcid": "v"}), "vpc"),
        (lambda session: containers.del_container_service(session, None, "s"), "env"),
        (lambda session: containers.del_container_service(session, "e", ""), "service_name"),
    ],
    ids=itertools.count(),
)
async def test_arguments_of_services_are_checked_before_anything_is_sent(session, platform, call, name):
    """Every argument has one type, ids and names are not empty, and the message names the argument."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{name} must be"):
        await call(session)
    assert (platform.sent, platform.bought) == ([], [])


@pytest.mark.parametrize("name", NETWORK)
def test_a_network_is_given_whole(name):
    """Each of the three members is required."""
    with pytest.raises(TypeError, match=name):
        Vpc(**{key: value for key, value in NETWORK.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vpc_id", ""),
        ("vpc_id", 5),
        ("subnet_ids", []),
        ("subnet_ids", "s-1"),
        ("subnet_ids", [""]),
        ("subnet_ids", None),
        ("create_type", None),
        ("create_type", "1"),
        ("create_type", True),
    ],
)
def test_a_network_is_refused_by_the_name_of_its_flaw(name, value):
    """Nothing of it may be empty or of another type."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^Vpc: {name}\b"):
        Vpc(**{**NETWORK, name: value})


@pytest.mark.parametrize("create_type", [0, 1, 2, 3])
async def test_how_a_network_comes_about_is_the_platforms_business(session, platform, create_type):
    """The pages name 0 to 2, and a sample of them sends 3: all are sent."""
    platform.replies = [DONE]
    vpc = attrs.evolve(Vpc(**NETWORK), create_type=create_type)
    await containers.create_container_service(session, "e", "s", vpc=vpc)
    [body] = platform.bodies
    assert body["vpc"] == {"vpcid": "v", "subnetids": ["s-1"], "create_type": create_type}


@pytest.mark.parametrize("verb", ["open_container_service", "create_container_service"])
async def test_what_adds_something_is_not_sent_again(session, platform, verb):
    """A code that hides whether it acted ends the call, for a repeat might open or create another."""
    platform.replies = [{"errcode": -1000, "errmsg": "system error"}]
    arguments = ("e",) if verb == "open_container_service" else ("e", "s")
    with pytest.raises(wxtcb.OutcomeUnknown):
        await getattr(containers, verb)(session, *arguments)
    assert len(platform.sent) == 1
