"""Credentials from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from wxtcb.cli.settings import read_settings
from wxtcb.errors import InvalidArgument, TicketError

GIVEN = {
    "WXTCB_COMPONENT_APPID": " wx1 ",
    "WXTCB_COMPONENT_APPSECRET": "hush",
    "WXTCB_TICKET": "ticket@@@1",
}


def test_credentials_are_read_without_stray_spaces() -> None:
    """And the platform is the real one unless another is named; nothing secret is shown."""
    settings = read_settings(GIVEN)
    assert (settings.component_appid, settings.base_url) == ("wx1", "https://api.weixin.qq.com")
    assert not settings.on_loopback
    assert "hush" not in repr(settings)
    assert "ticket@@@1" not in repr(settings)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:80", "http://[::1]:9", "https://127.0.0.1"])
def test_loopback_is_known(url: str) -> None:
    """By address and by name."""
    assert read_settings({**GIVEN, "WXTCB_BASE_URL": url}).on_loopback


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"WXTCB_COMPONENT_APPID": ""}, "not set in the environment: WXTCB_COMPONENT_APPID;"),
        ({"WXTCB_TICKET": " "}, "not set in the environment: WXTCB_TICKET or WXTCB_TICKET_FILE;"),
        ({"WXTCB_TICKET_FILE": __file__}, "WXTCB_TICKET and WXTCB_TICKET_FILE are both set: unset one"),
        ({"WXTCB_TICKET": "", "WXTCB_TICKET_FILE": "/no/such"}, "WXTCB_TICKET_FILE: there is no file /no/such"),
        ({"WXTCB_TOKEN_STORE": "sqlite:///x"}, "WXTCB_TOKEN_STORE: this version has no shared token store"),
        ({"WXTCB_COMPONENT_APPID": "wx\udcff"}, "WXTCB_COMPONENT_APPID: it is not UTF-8"),
        ({"WXTCB_COMPONENT_APPSECRET": "\udcff"}, "WXTCB_COMPONENT_APPSECRET: it is not UTF-8"),
        ({"WXTCB_TICKET": "ticket@@@\udce9"}, "WXTCB_TICKET: it is not UTF-8"),
        ({"WXTCB_BASE_URL": "http://127.0.0.1/\udcff"}, "WXTCB_BASE_URL: it is not UTF-8"),
        ({"WXTCB_BASE_URL": "ftp://x"}, "WXTCB_BASE_URL: base_url must be http"),
        ({"WXTCB_BASE_URL": "http://example.com"}, "WXTCB_BASE_URL: base_url: plain http to example.com"),
    ],
)
def test_what_is_wrong_is_told_by_variable(more: dict[str, str], message: str) -> None:
    """And that nothing was sent."""
    with pytest.raises(InvalidArgument) as caught:
        read_settings({**GIVEN, **more})
    assert message in str(caught.value)
    assert str(caught.value).endswith("nothing was sent")


async def test_a_ticket_file_is_read_anew(tmp_path: Path) -> None:
    """Something else keeps the newest ticket in it."""
    path = tmp_path / "ticket"
    path.write_text("one\n")
    settings = read_settings({**GIVEN, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    assert (await settings.newest_ticket()).reveal() == "one"
    path.write_text("two\n")
    assert (await settings.newest_ticket()).reveal() == "two"
    assert (await settings.session().ticket()) == "two"


@pytest.mark.parametrize(
    ("data", "reason"), [(b" \n", "it is empty"), (b"\xff", "it is not UTF-8"), (None, "No such file")]
)
async def test_a_ticket_file_that_fails_is_named(tmp_path: Path, data: bytes | None, reason: str) -> None:
    """With the reason, and without what is in it."""
    path = tmp_path / "ticket"
    path.write_bytes(data or b"x")
    settings = read_settings({**GIVEN, "WXTCB_TICKET": "", "WXTCB_TICKET_FILE": str(path)})
    if data is None:
        path.unlink()
    with pytest.raises(TicketError, match=reason) as caught:
        await settings.newest_ticket()
    assert str(path) in str(caught.value)


async def test_a_ticket_that_is_given_is_the_newest() -> None:
    """There is no other."""
    assert (await read_settings(GIVEN).newest_ticket()).reveal() == "ticket@@@1"


def test_a_ticket_is_asked_for_only_where_one_is_needed() -> None:
    """Without one there is none in the session either."""
    settings = read_settings({**GIVEN, "WXTCB_TICKET": ""}, needs_ticket=False)
    assert not settings.ticket
    assert settings.session().component_appid == "wx1"


def test_only_a_foreign_platform_demands_own_token() -> None:
    """A token of the sandbox voids nobody's."""
    foreign = read_settings(GIVEN)
    with pytest.raises(InvalidArgument, match=r"^plan: a new token of https://api.weixin.qq.com may void"):
        foreign.demand_own_token("plan", given=False)
    foreign.demand_own_token("plan", given=True)
    read_settings({**GIVEN, "WXTCB_BASE_URL": "http://127.0.0.1:1"}).demand_own_token("plan", given=False)
