"""Pushes over the wire, to receivers on loopback."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import threading
from typing import Any

import pytest
from aiohttp import web

from wxtcb.sandbox import Push, PushResult, PushTargetNotSet, Sandbox
from wxtcb.sandbox.push.schedule import MAX_CONSECUTIVE_FAILURES

from .receiver import read_push, serve_receiver
from .sandbox_harness import PUSH, Harness


def account(harness: Harness) -> dict[str, str]:
    """Return the body that starts the push."""
    return {"component_appid": harness.sandbox.component_appid, "component_secret": harness.sandbox.component_appsecret}


async def test_a_ticket_is_pushed_on_demand(harness: Harness) -> None:
    """As XML, with the query of the platform, to the address given with its own query; the newest ticket is in it."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(f"{receiver.url}?tenant=1", every=None)
        assert (await harness.sandbox.push()).accepted
        assert receiver.tickets(harness.sandbox) == [harness.sandbox.ticket]
        [(query, _)] = receiver.pushes
    assert [*query] == ["tenant", "signature", "timestamp", "nonce", "encrypt_type", "msg_signature"]
    assert receiver.headers["Content-Type"] == "text/xml"
    assert "Accept-Encoding" not in receiver.headers


async def test_other_messages_are_pushed_on_demand(harness: Harness) -> None:
    """With fields of one's own."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert (await harness.sandbox.notify("unauthorized", AuthorizerAppid="wx1")).accepted
        [push] = receiver.pushes
    message = read_push(*push, harness.sandbox.world.message_settings)
    assert (message["InfoType"], message["AuthorizerAppid"]) == ("unauthorized", "wx1")


async def test_the_key_is_changed_between_pushes(harness: Harness) -> None:
    """What comes late was encrypted with the key before."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        old = harness.sandbox.encoding_aes_key
        await harness.sandbox.push()
        assert harness.sandbox.rotate_key() == harness.sandbox.encoding_aes_key != old
        await harness.sandbox.push()
    first, second = receiver.pushes
    assert read_push(*first, harness.sandbox.world.message_settings, key=old)
    assert read_push(*second, harness.sandbox.world.message_settings)["ComponentVerifyTicket"] == harness.sandbox.ticket


async def test_a_forgery_counts_as_nothing(harness: Harness) -> None:
    """It is the receiver's to refuse."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.append(web.Response(status=403, text="bad signature"))
        assert await harness.sandbox.push_forged() == PushResult(403, b"bad signature")
        [push] = receiver.pushes
    with pytest.raises(AssertionError):
        read_push(*push, harness.sandbox.world.message_settings)
    assert (harness.sandbox.pushes.sent, harness.sandbox.pushes.failed) == (0, 0)


async def test_a_day_of_pushes_takes_no_time(harness: Harness) -> None:
    """The pauses are the sandbox's `sleep`: under one that moves the clock, every ten minutes come at once."""

    async def sleep(seconds: float) -> None:
        if sandbox.pushes.sent == 144:
            await asyncio.Event().wait()
        harness.clock.advance(seconds)

    async with Sandbox(world=harness.sandbox.world, sleep=sleep) as sandbox, serve_receiver() as receiver:
        sandbox.push_to(receiver.url)
        await receiver.wait_for_pushes(144)
        tickets = receiver.tickets(sandbox)
    assert len(set(tickets)) == 144
    assert tickets[-1] == sandbox.ticket
    assert harness.clock.now == 1_200_000 + 143 * 600


def pushers() -> set[asyncio.Task[Any]]:
    """Return the tasks that push by themselves."""
    return {task for task in asyncio.all_tasks() if "PushClient._run" in repr(task)}


async def test_what_is_pushed_is_not_pushed_twice(harness: Harness) -> None:
    """Asked while it goes on, the platform goes on; asked after it stopped, it has one pace, not two."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url)
        await receiver.wait_for_pushes(1)
        before = pushers()
        await harness.post(PUSH, account(harness))
        assert pushers() == before
        receiver.responses.extend(web.Response(status=500) for _ in range(MAX_CONSECUTIVE_FAILURES))
        for _ in range(MAX_CONSECUTIVE_FAILURES):
            await harness.sandbox.push()
        await harness.post(PUSH, account(harness))
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES + 2)
        assert len(pushers()) == 1
        assert pushers() != before


async def test_pushing_stops_and_starts_again(harness: Harness) -> None:
    """After failures in a row nothing comes, until the platform is asked; then something comes at once."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=0.001)
        receiver.responses.extend(web.Response(text="fail") for _ in range(MAX_CONSECUTIVE_FAILURES))
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES)
        [pushing] = pushers()
        await asyncio.wait([pushing], timeout=60)
        assert len(receiver.pushes) == MAX_CONSECUTIVE_FAILURES
        assert (await harness.post(PUSH, account(harness)))["errmsg"] == "ok"
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES + 2)
        assert (await harness.post(PUSH, account(harness)))["errmsg"] == "in a normal state"
    assert harness.sandbox.pushes.failed == MAX_CONSECUTIVE_FAILURES


async def test_pushing_that_has_stopped_is_still_done_on_demand(harness: Harness) -> None:
    """And a success does not start it."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.extend(web.Response(status=500) for _ in range(MAX_CONSECUTIVE_FAILURES))
        assert not any([(await harness.sandbox.push()).accepted for _ in range(MAX_CONSECUTIVE_FAILURES)])
        assert (await harness.sandbox.push()).accepted
        assert harness.sandbox.pushes.stopped
        await harness.post(PUSH, account(harness))
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES + 2)


async def test_pushing_is_started_before_anybody_is_there(harness: Harness) -> None:
    """The platform only remembers it."""
    assert (await harness.post(PUSH, account(harness)))["errmsg"] == "ok"
    with pytest.raises(PushTargetNotSet, match=r"push_to\(url\) comes first"):
        await harness.sandbox.push()


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "success\n"},
        {"text": "success", "status": 202},
        {"status": 302, "headers": {"Location": "/push"}, "text": "success"},
        {"body": b"success" * 100_000},
    ],
)
async def test_no_other_answer_will_do(harness: Harness, answer: dict[str, Any]) -> None:
    """A redirect is not followed, and of a long answer only the start is read."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.append(web.Response(**answer))
        result = await harness.sandbox.push()
        assert (result.accepted, result.status) == (False, answer.get("status", 200))
        assert len(result.response_body) <= 64
        assert (len(receiver.pushes), harness.sandbox.pushes.failed) == (1, 1)


async def test_a_success_that_is_squeezed_is_none(harness: Harness) -> None:
    """The platform looks at the bytes."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.append(web.Response(body=gzip.compress(b"success"), headers={"Content-Encoding": "gzip"}))
        assert (await harness.sandbox.push()).response_body.startswith(b"\x1f\x8b")


async def drip(request: web.Request) -> web.StreamResponse:
    """Answer a byte at a time, for ever."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b"s")
        await asyncio.sleep(0.04)


async def hang(_: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("handler", [drip, hang])
async def test_a_slow_receiver_is_cut_off(harness: Harness, handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five seconds in all, here fewer, however it wastes them."""
    monkeypatch.setattr("wxtcb.sandbox.push.delivery.DELIVERY_TIMEOUT", 0.1)
    async with serve_receiver(handler) as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert str(await harness.sandbox.push()) == "no answer within 0.1 s"


async def test_a_receiver_that_leaves_is_told(harness: Harness) -> None:
    """By the name of what went wrong."""

    async def leave(request: web.Request) -> web.StreamResponse:
        request.protocol.force_close()
        return web.Response()

    async with serve_receiver(leave) as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert str(await harness.sandbox.push()) == "no answer (ServerDisconnectedError)"


async def test_a_receiver_may_come_later(harness: Harness) -> None:
    """It gets the push that was kept for it."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    told: list[tuple[Push, PushResult]] = []
    failed = asyncio.Event()

    def tell(push: Push, result: PushResult) -> None:
        told.append((push, result))
        failed.set()

    harness.sandbox.push_to(f"http://127.0.0.1:{port}/", every=0.01, on_result=tell)
    await asyncio.wait_for(failed.wait(), 60)
    [(push, result), *_] = told
    assert str(result) == "no answer (Connection refused)"
    assert harness.sandbox.pushes.sent == 0
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=0.01, on_result=tell)
        await receiver.wait_for_pushes(1)
    assert receiver.pushes[0] == (push.query, push.body)


@pytest.mark.parametrize("mistake", [BrokenPipeError(), asyncio.CancelledError()])
async def test_who_hears_of_the_pushes_cannot_end_them(harness: Harness, mistake: BaseException) -> None:
    """What it raises goes to the loop; the next push comes in time, and one on demand has its result."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def tell(_push: Push, _receipt: PushResult) -> None:
        raise mistake

    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=0.001, on_result=tell)
        await receiver.wait_for_pushes(3)
        harness.sandbox.push_to(receiver.url, every=None, on_result=tell)
        assert (await harness.sandbox.push()).accepted
    assert len(reported) >= 3
    assert {context["exception"] for context in reported} == {mistake}


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "http://example.com/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://127.0.0.1.example.com/",
        "http://localhost@example.com/",
        "http://:80/",
        "http://[::1",
        "127.0.0.1:80",
        "",
        5,
        None,
    ],
)
async def test_only_this_machine_is_pushed_to(harness: Harness, url: Any) -> None:
    """Whatever else an address looks like; the error shows what one looks like."""
    with pytest.raises(ValueError, match=f"on this machine only, as in http://127.*, not to {re.escape(repr(url))}$"):
        harness.sandbox.push_to(url)
    with pytest.raises(PushTargetNotSet):
        await harness.sandbox.notify("authorized")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1/x", "http://[::1]:1/", "http://127.9.9.9:1"])
async def test_every_name_of_this_machine_is_known(harness: Harness, url: str) -> None:
    """By address and by name."""
    harness.sandbox.push_to(url, every=None)
    assert (await harness.sandbox.push()).status is None


async def test_another_address_takes_the_place_of_the_first(harness: Harness) -> None:
    """The first gets nothing more."""
    async with serve_receiver() as first, serve_receiver() as second:
        harness.sandbox.push_to(first.url, every=0.001)
        await first.wait_for_pushes(2)
        harness.sandbox.push_to(second.url, every=0.001)
        await second.wait_for_pushes(1)
        heard = len(first.pushes)
        await second.wait_for_pushes(20)
        assert len(first.pushes) == heard


async def test_pushing_ends_with_the_sandbox() -> None:
    """In the middle of a push, too, and nothing is left behind; a sandbox that is not entered pushes nothing."""
    pushed = asyncio.Event()

    async def take(_: web.Request) -> web.StreamResponse:
        pushed.set()
        return await hang(_)

    async with serve_receiver(take) as receiver:
        async with Sandbox() as sandbox:
            sandbox.push_to(receiver.url)
            await asyncio.wait_for(pushed.wait(), 60)
            assert pushers()
        assert not pushers()
        with pytest.raises(RuntimeError, match="a sandbox that is entered"):
            sandbox.push_to(receiver.url)


def test_tests_that_run_another_loop_can_push() -> None:
    """The sandbox's loop may be in another thread: `push_to` and `push` work from here."""
    up, end = threading.Event(), threading.Event()
    made: list[Sandbox] = []

    async def serve() -> None:
        async with Sandbox() as sandbox:
            made.append(sandbox)
            up.set()
            await asyncio.to_thread(end.wait)

    async def test() -> None:
        async with serve_receiver() as receiver:
            made[0].push_to(receiver.url, every=0.001)
            assert (await made[0].push()).accepted
            await receiver.wait_for_pushes(3)

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        assert up.wait(60)
        asyncio.run(test())
    finally:
        end.set()
        thread.join(60)


async def test_a_dead_receiver_holds_nobody_up(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a push hangs, the platform answers."""
    monkeypatch.setattr("wxtcb.sandbox.push.delivery.DELIVERY_TIMEOUT", 3600.0)
    pushed = asyncio.Event()
    told: list[PushResult] = []

    async def take(request: web.Request) -> web.StreamResponse:
        pushed.set()
        return await hang(request)

    async with serve_receiver(take) as receiver:
        harness.sandbox.push_to(receiver.url, on_result=lambda _, result: told.append(result))
        await asyncio.wait_for(pushed.wait(), 60)
        async with asyncio.timeout(60):
            for _ in range(20):
                await harness.post(PUSH, account(harness))
        assert told == []
