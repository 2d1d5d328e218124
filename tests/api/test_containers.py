"""Container services: their list, page by page."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.api import containers
from wxtcb.api.containers import ContainerServices


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
