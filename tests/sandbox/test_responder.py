"""Every fault, as a client meets it."""

from __future__ import annotations

import asyncio
import gzip

import aiohttp
import pytest
from attrs import define, field

from wxtcb.sandbox import Fault, FaultKind, Faults, Sandbox, World

from .sandbox_harness import CREATE, LIST, TOKEN, Clock, Harness

ALIAS = {"alias": "a"}


@define(eq=False)
class Watched(Faults):
    """Faults that say when one struck."""

    struck: asyncio.Event = field(init=False, factory=asyncio.Event)

    def next_fault(self, path: str) -> Fault | None:
        self.struck.set()
        return super().next_fault(path)


def acted(harness: Harness) -> bool:
    """Say whether the last request took effect, by the world and by what was seen."""
    assert harness.sandbox.seen[-1].acted is bool(harness.sandbox.world.environments)
    return harness.sandbox.seen[-1].acted


async def post(harness: Harness) -> tuple[int, str, bytes]:
    """Create an environment and return the raw reply."""
    query = {"access_token": harness.sandbox.world.issue_token()}
    async with harness.http.post(CREATE, json=ALIAS, params=query, allow_redirects=False) as reply:
        return reply.status, reply.headers.get("Content-Type", ""), await reply.read()


async def test_an_errcode_before_acting_leaves_no_trace(harness: Harness) -> None:
    """-1 and any other code can be answered without having acted."""
    harness.sandbox.faults.busy(times=1)
    harness.sandbox.faults.errcode(45011, path=CREATE, times=1)
    for errcode in (-1, 45011):
        assert (await harness.call(CREATE, ALIAS))["errcode"] == errcode
        assert not acted(harness)
    assert harness.sandbox.seen[-1].outcome == "errcode"


@pytest.mark.parametrize(("trouble", "errcode"), [(FaultKind.BUSY_AFTER, -1), (FaultKind.SYSTEM_ERROR_AFTER, -1000)])
async def test_an_error_can_hide_an_act(harness: Harness, trouble: FaultKind, errcode: int) -> None:
    """The environment exists although the answer is an error."""
    harness.sandbox.faults.add(Fault(trouble))
    assert (await harness.call(CREATE, ALIAS))["errcode"] == errcode
    assert acted(harness)


@pytest.mark.parametrize(("trouble", "acts"), [("drop", False), ("drop-after", True), ("truncate", True)])
async def test_a_connection_is_lost(harness: Harness, trouble: str, *, acts: bool) -> None:
    """The client gets an error of its transport, and the next call is served."""
    harness.sandbox.faults.add(Fault(FaultKind(trouble), times=1))
    with pytest.raises(aiohttp.ClientError):
        await post(harness)
    assert acted(harness) is acts
    assert harness.sandbox.seen[-1].errcode is None
    assert (await harness.call(CREATE, ALIAS))["errcode"] == 0


async def test_slow_acts_first(world: World) -> None:
    """The act is done before the pause, and the pause has the length asked for."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        assert world.environments
        slept.append(seconds)

    async with Sandbox(world=world, sleep=sleep) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        sandbox.faults.slow(30)
        assert (await Harness(sandbox, Clock(), http).call(CREATE, ALIAS))["errcode"] == 0
    assert slept == [30]


@pytest.mark.parametrize(("after", "acts"), [(False, False), (True, True)])
async def test_a_hanging_answer_ends_with_the_sandbox(world: World, *, after: bool, acts: bool) -> None:
    """Closing the sandbox frees the client at once."""
    async with aiohttp.ClientSession() as http:
        faults = Watched()
        async with Sandbox(world=world, faults=faults) as sandbox:
            _ = sandbox.faults.hang_after() if after else sandbox.faults.hang()
            query = {"access_token": world.issue_token()}
            waiting = asyncio.ensure_future(http.post(sandbox.url + CREATE, json=ALIAS, params=query))
            await faults.struck.wait()
        with pytest.raises(aiohttp.ClientError):
            await waiting
    assert bool(world.environments) is acts


async def test_a_client_may_leave_a_hanging_answer(harness: Harness) -> None:
    """The sandbox goes on serving others."""
    harness.sandbox.faults = faults = Watched()
    faults.hang(times=1)
    waiting = asyncio.ensure_future(harness.call(CREATE, ALIAS))
    await faults.struck.wait()
    waiting.cancel()
    assert (await harness.call(LIST, {}))["errcode"] == 0


@pytest.mark.parametrize(
    ("trouble", "status", "shown", "acts"),
    [
        (FaultKind.HTTP, 0, 502, False),
        (FaultKind.HTTP, 413, 413, False),
        (FaultKind.HTTP_AFTER, 503, 503, True),
        (FaultKind.REDIRECT, 0, 307, False),
        (FaultKind.REDIRECT, 302, 302, False),
        (FaultKind.ECHO_PAGE, 0, 502, True),
    ],
)
async def test_html_comes_instead(harness: Harness, trouble: FaultKind, status: int, shown: int, *, acts: bool) -> None:
    """Another HTTP status comes with an HTML page."""
    harness.sandbox.faults.add(Fault(trouble, status=status))
    assert (await post(harness))[:2] == (shown, "text/html; charset=utf-8")
    assert acted(harness) is acts


async def test_a_redirect_that_is_followed_would_act(harness: Harness) -> None:
    """A 307 points at the very same URL, so that a careless client acts there."""
    harness.sandbox.faults.redirect(times=1)
    assert (await harness.call(CREATE, ALIAS))["errcode"] == 0
    assert [seen.outcome for seen in harness.sandbox.seen] == ["redirect", "answered"]


async def test_the_right_answer_comes_in_odd_clothes(harness: Harness) -> None:
    """As text/plain, compressed, and stretched by megabytes it is the right answer still."""
    for fault in (harness.sandbox.faults.plain, harness.sandbox.faults.gzip):
        fault(times=1)
    harness.sandbox.faults.huge(2, times=1)
    assert (await post(harness))[1] == "text/plain"
    assert b"tranid" in (await post(harness))[2]
    huge = await harness.call(CREATE, ALIAS)
    assert (huge["errcode"], len(huge["padding"])) == (0, 2 << 20)


async def test_gzip_is_gzip_on_the_wire(harness: Harness) -> None:
    """A client that does not decompress sees the compressed bytes."""
    harness.sandbox.faults.gzip()
    async with aiohttp.ClientSession(harness.sandbox.url, auto_decompress=False) as http:
        reply = await http.post(CREATE, json=ALIAS, params={"access_token": harness.sandbox.world.issue_token()})
        assert b"errcode" in gzip.decompress(await reply.read())


async def test_an_unreadable_answer_hides_an_act(harness: Harness) -> None:
    """Nothing, or what is no object, comes after the act."""
    harness.sandbox.faults.empty(times=1)
    harness.sandbox.faults.not_object(times=1)
    harness.sandbox.faults.not_object("null", times=1)
    assert [(await post(harness))[2] for _ in range(3)] == [b"", b"[]", b"null"]
    assert acted(harness)


async def test_a_field_goes_missing(harness: Harness) -> None:
    """A dotted name takes it from every row; one that is not there changes nothing."""
    harness.sandbox.world.add("a")
    for name in ("info_list.status", "info_list", "nowhere.to.be"):
        harness.sandbox.faults.missing(name, times=1)
    rows = (await harness.call(LIST, {}))["info_list"]
    assert [("env" in row, "status" in row) for row in rows] == [(True, False)]
    assert "info_list" not in await harness.call(LIST, {})
    assert "status" in (await harness.call(LIST, {}))["info_list"][0]


async def test_the_list_hiccups(harness: Harness) -> None:
    """Named, newest or all environments vanish from one reply, and the world keeps them."""
    envs = [harness.sandbox.world.add("a") for _ in range(3)]
    harness.sandbox.faults.incomplete_list(envs[0], times=1)
    harness.sandbox.faults.incomplete_list(newest=1, times=1)
    harness.sandbox.faults.incomplete_list(newest=9, times=1)
    harness.sandbox.faults.incomplete_list(times=1)
    replies = [await harness.call(LIST, {}) for _ in range(5)]
    assert [[row["env"] for row in reply["info_list"]] for reply in replies] == [envs[1:], envs[:2], [], [], envs]


async def test_a_hiccup_leaves_other_replies_alone(harness: Harness) -> None:
    """What is not a list of environments goes through."""
    harness.sandbox.faults.incomplete_list()
    assert "tranid" in await harness.call(CREATE, ALIAS)


async def test_echoes_hold_the_token_and_the_body(harness: Harness) -> None:
    """Both kinds repeat what a careful client must not pass on."""
    token = harness.sandbox.world.issue_token()
    harness.sandbox.faults.echo_page(times=1)
    harness.sandbox.faults.echo_message(times=1)
    for _ in range(2):
        async with harness.http.post(CREATE, json=ALIAS, params={"access_token": token}) as reply:
            page = await reply.text()
        assert token in page
        assert "alias" in page


async def test_a_killed_token_is_answered_with_42001(harness: Harness) -> None:
    """The call that carries it is the first to learn."""
    harness.sandbox.faults.expire_token(times=1)
    assert (await harness.call(LIST, {}))["errcode"] == 42001
    assert (harness.sandbox.world.forced_expirations, harness.sandbox.seen[-1].outcome) == (1, "kill-token")


async def test_tokens_are_killed_at_intervals(harness: Harness) -> None:
    """Every so many seconds of the world's clock the living token ends; the token call itself kills none."""
    harness.sandbox.faults.expire_token_every = 0.2
    token = harness.sandbox.world.issue_token()
    assert (await harness.post(LIST, {}, access_token=token))["errcode"] == 0
    harness.clock.advance(0.25)
    await harness.post(TOKEN, {})
    assert (await harness.post(LIST, {}, access_token=token))["errcode"] == 42001
    harness.clock.advance(0.25)
    assert (await harness.post(LIST, {}, access_token=token))["errcode"] == 42001
    assert harness.sandbox.world.forced_expirations == 1


async def test_a_ticket_is_refused(harness: Harness) -> None:
    """The token call answers 61006 as if the ticket were wrong."""
    harness.sandbox.faults.reject_ticket(times=1)
    assert (await harness.post(TOKEN, harness.account()))["errcode"] == 61006
    assert "component_access_token" in await harness.post(TOKEN, harness.account())


@pytest.mark.parametrize("name", ["busy_after", "system_error_after", "drop", "drop_after", "truncate"])
def test_recipes_are_named_like_their_trouble(rig_free: Sandbox, name: str) -> None:
    """A verb adds the fault of that name."""
    fault: Fault = getattr(rig_free.faults, name)()
    assert fault.trouble.name.lower() == name


@pytest.fixture
def rig_free() -> Sandbox:
    """Make a sandbox that is never entered."""
    return Sandbox()


def test_http_recipes_take_a_status(rig_free: Sandbox) -> None:
    """Before and after acting."""
    assert (rig_free.faults.http(500).status, rig_free.faults.http_after(503).status) == (500, 503)
