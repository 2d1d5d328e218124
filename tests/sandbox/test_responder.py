"""Every kind of fault, as a client observes it."""

from __future__ import annotations

import asyncio
import gzip

import aiohttp
import pytest
from attrs import define, evolve, field

from wxtcb.sandbox import Fault, FaultKind, Faults, Sandbox, World
from wxtcb.sandbox.request import PlatformRequest
from wxtcb.sandbox.responder import respond

from .sandbox_harness import CREATE, LIST, TOKEN, Clock, Harness

ALIAS = {"alias": "a"}


@define(eq=False)
class ObservedFaults(Faults):
    """Faults with an event for the first request."""

    requested: asyncio.Event = field(init=False, factory=asyncio.Event)

    def next_fault(self, path: str) -> Fault | None:
        self.requested.set()
        return super().next_fault(path)


def acted(harness: Harness) -> bool:
    """Return whether the last request took effect, by the world and by what was seen."""
    assert harness.sandbox.seen[-1].acted is bool(harness.sandbox.world.environments)
    return harness.sandbox.seen[-1].acted


async def post(harness: Harness) -> tuple[int, str, bytes]:
    """Create an environment and return the raw reply."""
    query = {"access_token": harness.sandbox.world.issue_token()}
    async with harness.http.post(CREATE, json=ALIAS, params=query, allow_redirects=False) as reply:
        return reply.status, reply.headers.get("Content-Type", ""), await reply.read()


async def test_errcode_before_the_call_has_no_effect(harness: Harness) -> None:
    """-1 and any other errcode can be returned without an effect."""
    harness.sandbox.faults.busy(times=1)
    harness.sandbox.faults.errcode(45011, path=CREATE, times=1)
    for errcode in (-1, 45011):
        assert (await harness.call(CREATE, ALIAS))["errcode"] == errcode
        assert not acted(harness)
    assert harness.sandbox.seen[-1].outcome == "errcode"


@pytest.mark.parametrize(("kind", "errcode"), [(FaultKind.BUSY_AFTER, -1), (FaultKind.SYSTEM_ERROR_AFTER, -1000)])
async def test_error_can_hide_an_effect(harness: Harness, kind: FaultKind, errcode: int) -> None:
    """The environment exists although the reply is an error."""
    harness.sandbox.faults.add(Fault(kind))
    assert (await harness.call(CREATE, ALIAS))["errcode"] == errcode
    assert acted(harness)


@pytest.mark.parametrize(("kind", "takes_effect"), [("drop", False), ("drop-after", True), ("truncate", True)])
async def test_connection_is_lost(harness: Harness, kind: str, *, takes_effect: bool) -> None:
    """The client gets a transport error, and the next call is served."""
    harness.sandbox.faults.add(Fault(FaultKind(kind), times=1))
    with pytest.raises(aiohttp.ClientError):
        await post(harness)
    assert acted(harness) is takes_effect
    assert harness.sandbox.seen[-1].errcode is None
    assert (await harness.call(CREATE, ALIAS))["errcode"] == 0


async def test_slow_call_takes_effect_before_the_delay(world: World) -> None:
    """The call takes effect before the delay, which has the given length."""
    delays: list[float] = []

    async def sleep(seconds: float) -> None:
        assert world.environments
        delays.append(seconds)

    async with Sandbox(world=world, sleep=sleep) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        sandbox.faults.slow(30)
        assert (await Harness(sandbox, Clock(), http).call(CREATE, ALIAS))["errcode"] == 0
    assert delays == [30]


@pytest.mark.parametrize(("after", "takes_effect"), [(False, False), (True, True)])
async def test_hanging_response_ends_with_the_sandbox(world: World, *, after: bool, takes_effect: bool) -> None:
    """Closing the sandbox disconnects the client."""
    async with aiohttp.ClientSession() as http:
        faults = ObservedFaults()
        async with Sandbox(world=world, faults=faults) as sandbox:
            _ = sandbox.faults.hang_after() if after else sandbox.faults.hang()
            query = {"access_token": world.issue_token()}
            waiting = asyncio.ensure_future(http.post(sandbox.url + CREATE, json=ALIAS, params=query))
            await faults.requested.wait()
        with pytest.raises(aiohttp.ClientError):
            await waiting
    assert bool(world.environments) is takes_effect


async def test_client_may_disconnect_from_a_hanging_response(harness: Harness) -> None:
    """The sandbox continues to serve other requests."""
    harness.sandbox.faults = faults = ObservedFaults()
    faults.hang(times=1)
    waiting = asyncio.ensure_future(harness.call(CREATE, ALIAS))
    await faults.requested.wait()
    waiting.cancel()
    assert (await harness.call(LIST, {}))["errcode"] == 0


@pytest.mark.parametrize(
    ("kind", "status", "sent", "takes_effect"),
    [
        (FaultKind.HTTP, 0, 502, False),
        (FaultKind.HTTP, 413, 413, False),
        (FaultKind.HTTP_AFTER, 503, 503, True),
        (FaultKind.REDIRECT, 0, 307, False),
        (FaultKind.REDIRECT, 302, 302, False),
        (FaultKind.ECHO_PAGE, 0, 502, True),
    ],
)
async def test_html_page_replaces_the_reply(
    harness: Harness, kind: FaultKind, status: int, sent: int, *, takes_effect: bool
) -> None:
    """An HTML page is sent with the given or the default status."""
    harness.sandbox.faults.add(Fault(kind, status=status))
    assert (await post(harness))[:2] == (sent, "text/html; charset=utf-8")
    assert acted(harness) is takes_effect


async def test_followed_redirect_takes_effect(harness: Harness) -> None:
    """A 307 points to the same URL, so the call takes effect if a client follows it."""
    harness.sandbox.faults.redirect(times=1)
    assert (await harness.call(CREATE, ALIAS))["errcode"] == 0
    assert [seen.outcome for seen in harness.sandbox.seen] == ["redirect", "answered"]


async def test_correct_reply_in_another_encoding(harness: Harness) -> None:
    """The reply stays correct as text/plain, compressed, and padded by megabytes."""
    for fault in (harness.sandbox.faults.plain, harness.sandbox.faults.gzip):
        fault(times=1)
    harness.sandbox.faults.huge(2, times=1)
    assert (await post(harness))[1] == "text/plain"
    assert b"tranid" in (await post(harness))[2]
    huge = await harness.call(CREATE, ALIAS)
    assert (huge["errcode"], len(huge["padding"])) == (0, 2 << 20)


async def test_gzip_is_sent_to_any_client(harness: Harness) -> None:
    """A client that does not decompress receives compressed bytes."""
    harness.sandbox.faults.gzip()
    async with aiohttp.ClientSession(harness.sandbox.url, auto_decompress=False) as http:
        reply = await http.post(CREATE, json=ALIAS, params={"access_token": harness.sandbox.world.issue_token()})
        assert b"errcode" in gzip.decompress(await reply.read())


async def test_unreadable_reply_hides_an_effect(harness: Harness) -> None:
    """An empty body, or JSON that is not an object, is sent after the call took effect."""
    harness.sandbox.faults.empty(times=1)
    harness.sandbox.faults.not_object(times=1)
    harness.sandbox.faults.not_object("null", times=1)
    assert [(await post(harness))[2] for _ in range(3)] == [b"", b"[]", b"null"]
    assert acted(harness)


async def test_field_is_removed(harness: Harness) -> None:
    """A dotted name removes the field from every row; an unknown name changes nothing."""
    harness.sandbox.world.add("a")
    for name in ("info_list.status", "info_list", "nowhere.to.be"):
        harness.sandbox.faults.missing(name, times=1)
    rows = (await harness.call(LIST, {}))["info_list"]
    assert [("env" in row, "status" in row) for row in rows] == [(True, False)]
    assert "info_list" not in await harness.call(LIST, {})
    assert "status" in (await harness.call(LIST, {}))["info_list"][0]


async def test_list_is_incomplete(harness: Harness) -> None:
    """Named, newest or all environments are missing from one reply, and still exist."""
    envs = [harness.sandbox.world.add("a") for _ in range(3)]
    harness.sandbox.faults.incomplete_list(envs[0], times=1)
    harness.sandbox.faults.incomplete_list(newest=1, times=1)
    harness.sandbox.faults.incomplete_list(newest=9, times=1)
    harness.sandbox.faults.incomplete_list(times=1)
    replies = [await harness.call(LIST, {}) for _ in range(5)]
    assert [[row["env"] for row in reply["info_list"]] for reply in replies] == [envs[1:], envs[:2], [], [], envs]


async def test_incomplete_list_leaves_other_replies_unchanged(harness: Harness) -> None:
    """A reply without a list of environments is unchanged."""
    harness.sandbox.faults.incomplete_list()
    assert "tranid" in await harness.call(CREATE, ALIAS)


async def test_echoes_contain_token_and_body(harness: Harness) -> None:
    """Both kinds of echo repeat what a client must not log."""
    token = harness.sandbox.world.issue_token()
    harness.sandbox.faults.echo_page(times=1)
    harness.sandbox.faults.echo_message(times=1)
    for _ in range(2):
        async with harness.http.post(CREATE, json=ALIAS, params={"access_token": token}) as reply:
            page = await reply.text()
        assert token in page
        assert "alias" in page


async def test_call_with_expired_token_gets_42001(harness: Harness) -> None:
    """The call that expires the token is the first one to fail."""
    harness.sandbox.faults.expire_token(times=1)
    assert (await harness.call(LIST, {}))["errcode"] == 42001
    assert (harness.sandbox.world.forced_expirations, harness.sandbox.seen[-1].outcome) == (1, "expire-token")


async def test_tokens_expire_at_intervals(harness: Harness) -> None:
    """Tokens expire at intervals of the world's clock; the token call itself expires none."""
    harness.sandbox.faults.expire_token_every = 0.2
    token = harness.sandbox.world.issue_token()
    assert (await harness.post(LIST, {}, access_token=token))["errcode"] == 0
    harness.clock.advance(0.25)
    await harness.post(TOKEN, {})
    assert (await harness.post(LIST, {}, access_token=token))["errcode"] == 42001
    harness.clock.advance(0.25)
    assert (await harness.post(LIST, {}, access_token=token))["errcode"] == 42001
    assert harness.sandbox.world.forced_expirations == 1


async def test_ticket_is_rejected(harness: Harness) -> None:
    """The token call returns 61006 as if the ticket were invalid."""
    harness.sandbox.faults.reject_ticket(times=1)
    assert (await harness.post(TOKEN, harness.account()))["errcode"] == 61006
    assert "component_access_token" in await harness.post(TOKEN, harness.account())


@pytest.mark.parametrize("name", ["busy_after", "system_error_after", "drop", "drop_after", "truncate"])
def test_methods_are_named_like_their_kind(name: str) -> None:
    """A method adds the fault of its name."""
    fault: Fault = getattr(Faults(), name)()
    assert fault.kind.name.lower() == name


def test_http_methods_take_a_status() -> None:
    """The status is given for both kinds of HTTP fault."""
    assert (Faults().http(500).status, Faults().http_after(503).status) == (500, 503)


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FaultKind if kind not in (FaultKind.EXPIRE_TOKEN, FaultKind.SLOW)],
    ids=lambda kind: kind.value,
)
def test_every_kind_changes_the_response(world: World, kind: FaultKind) -> None:
    """Every kind of fault except an expired token and a delay changes how or what the client receives."""
    world.add("a")
    url = f"{LIST}?access_token={world.issue_token()}"
    request = PlatformRequest.parse("POST", url, {"access_token": url.partition("=")[2]}, b"{}")
    correct = respond(world, Faults(), request)
    faults = Faults()
    faults.add(Fault(kind))
    changed = respond(world, faults, request)
    assert changed.outcome == kind.value
    assert evolve(changed, outcome=correct.outcome, acted=correct.acted) != correct
