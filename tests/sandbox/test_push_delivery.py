"""Delivery of pushes over HTTP to receivers on loopback."""

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


async def test_ticket_is_pushed_on_demand(harness: Harness) -> None:
    """The newest ticket is pushed as XML, with the platform's parameters added to the query of the URL."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(f"{receiver.url}?tenant=1", every=None)
        assert (await harness.sandbox.push()).accepted
        assert receiver.tickets(harness.sandbox) == [harness.sandbox.ticket]
        [(query, _)] = receiver.pushes
    assert [*query] == ["tenant", "signature", "timestamp", "nonce", "encrypt_type", "msg_signature"]
    assert receiver.headers["Content-Type"] == "text/xml"
    assert "Accept-Encoding" not in receiver.headers


async def test_notification_is_pushed_on_demand(harness: Harness) -> None:
    """A notification is pushed with the given fields."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert (await harness.sandbox.notify("unauthorized", AuthorizerAppid="wx1")).accepted
        [push] = receiver.pushes
    message = read_push(*push, harness.sandbox.world.message_settings)
    assert (message["InfoType"], message["AuthorizerAppid"]) == ("unauthorized", "wx1")


async def test_key_can_be_rotated_between_pushes(harness: Harness) -> None:
    """A push made before the rotation is encrypted with the previous key."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        old = harness.sandbox.encoding_aes_key
        await harness.sandbox.push()
        assert harness.sandbox.rotate_key() == harness.sandbox.encoding_aes_key != old
        await harness.sandbox.push()
    first, second = receiver.pushes
    assert read_push(*first, harness.sandbox.world.message_settings, key=old)
    assert read_push(*second, harness.sandbox.world.message_settings)["ComponentVerifyTicket"] == harness.sandbox.ticket


async def test_forged_push_is_not_counted(harness: Harness) -> None:
    """A forged push does not verify, and is not counted."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.append(web.Response(status=403, text="bad signature"))
        assert await harness.sandbox.push_forged() == PushResult(403, b"bad signature")
        [push] = receiver.pushes
    with pytest.raises(AssertionError):
        read_push(*push, harness.sandbox.world.message_settings)
    assert (harness.sandbox.pushes.sent, harness.sandbox.pushes.failed) == (0, 0)


async def test_pauses_use_the_injected_sleep(harness: Harness) -> None:
    """With a `sleep` that advances the clock, a day of pushes is delivered without waiting."""

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


def push_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks that push periodically."""
    return {task for task in asyncio.all_tasks() if "PushClient._run" in repr(task)}


async def test_start_push_never_makes_a_second_task(harness: Harness) -> None:
    """Starting a running push changes nothing; starting a stopped one makes one task."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url)
        await receiver.wait_for_pushes(1)
        before = push_tasks()
        await harness.post(PUSH, account(harness))
        assert push_tasks() == before
        receiver.responses.extend(web.Response(status=500) for _ in range(MAX_CONSECUTIVE_FAILURES))
        for _ in range(MAX_CONSECUTIVE_FAILURES):
            await harness.sandbox.push()
        await harness.post(PUSH, account(harness))
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES + 2)
        assert len(push_tasks()) == 1
        assert push_tasks() != before


async def test_pushing_stops_after_failures_and_can_be_started_again(harness: Harness) -> None:
    """After failures in a row nothing is pushed until api_start_push_ticket is called; then a push follows at once."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=0.001)
        receiver.responses.append(web.Response(text="success"))
        receiver.responses.extend(web.Response(text="fail") for _ in range(MAX_CONSECUTIVE_FAILURES))
        await receiver.wait_for_pushes(1 + MAX_CONSECUTIVE_FAILURES)
        [task] = push_tasks()
        await asyncio.wait([task], timeout=60)
        assert len(receiver.pushes) == 1 + MAX_CONSECUTIVE_FAILURES
        assert (await harness.post(PUSH, account(harness)))["errmsg"] == "ok"
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES + 3)
        assert (await harness.post(PUSH, account(harness)))["errmsg"] == "in a normal state"
    assert harness.sandbox.pushes.failed == MAX_CONSECUTIVE_FAILURES


async def test_stopped_pushing_still_works_on_demand(harness: Harness) -> None:
    """A push on demand is delivered after pushing has stopped, and its success does not start it."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert (await harness.sandbox.push()).accepted
        receiver.responses.extend(web.Response(status=500) for _ in range(MAX_CONSECUTIVE_FAILURES))
        assert not any([(await harness.sandbox.push()).accepted for _ in range(MAX_CONSECUTIVE_FAILURES)])
        assert (await harness.sandbox.push()).accepted
        assert harness.sandbox.pushes.stopped
        await harness.post(PUSH, account(harness))
        await receiver.wait_for_pushes(MAX_CONSECUTIVE_FAILURES + 3)


async def test_push_can_be_started_before_a_url_is_set(harness: Harness) -> None:
    """Starting the push without a URL is recorded; a push on demand raises PushTargetNotSet."""
    assert (await harness.post(PUSH, account(harness)))["errmsg"] == "ok"
    with pytest.raises(PushTargetNotSet, match=r"call push_to\(url\) first"):
        await harness.sandbox.push()


@pytest.mark.parametrize(
    "response",
    [
        {"text": "success\n"},
        {"text": "success", "status": 202},
        {"status": 302, "headers": {"Location": "/push"}, "text": "success"},
        {"body": b"success" * 100_000},
    ],
)
async def test_any_other_response_is_a_failure(harness: Harness, response: dict[str, Any]) -> None:
    """A redirect is not followed, and only the start of a long response is read."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.append(web.Response(**response))
        result = await harness.sandbox.push()
        assert (result.accepted, result.status) == (False, response.get("status", 200))
        assert len(result.response_body) <= 64
        assert (len(receiver.pushes), harness.sandbox.pushes.failed) == (1, 1)


async def test_compressed_success_is_a_failure(harness: Harness) -> None:
    """The platform compares the bytes, so a compressed `success` is not accepted."""
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        receiver.responses.append(web.Response(body=gzip.compress(b"success"), headers={"Content-Encoding": "gzip"}))
        assert (await harness.sandbox.push()).response_body.startswith(b"\x1f\x8b")


async def drip(request: web.Request) -> web.StreamResponse:
    """Respond one byte at a time without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"s")
        await asyncio.sleep(0.04)


async def hang(_: web.Request) -> web.StreamResponse:
    """Never respond."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("handler", [drip, hang])
async def test_slow_receiver_times_out(harness: Harness, handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery ends at the timeout, even if the receiver keeps sending."""
    monkeypatch.setattr("wxtcb.sandbox.push.delivery.DELIVERY_TIMEOUT", 0.1)
    async with serve_receiver(handler) as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert str(await harness.sandbox.push()) == "no response within 0.1 s"


async def test_lost_connection_is_reported(harness: Harness) -> None:
    """A lost connection is reported by the name of the error."""

    async def disconnect(request: web.Request) -> web.StreamResponse:
        request.protocol.force_close()
        return web.Response()

    async with serve_receiver(disconnect) as receiver:
        harness.sandbox.push_to(receiver.url, every=None)
        assert str(await harness.sandbox.push()) == "no response (ServerDisconnectedError)"


async def test_receiver_may_start_later(harness: Harness) -> None:
    """A receiver that starts after the sandbox gets the ticket that was made before."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    results: list[tuple[Push, PushResult]] = []
    failed = asyncio.Event()

    def on_result(push: Push, result: PushResult) -> None:
        results.append((push, result))
        failed.set()

    harness.sandbox.push_to(f"http://127.0.0.1:{port}/", every=0.01, on_result=on_result)
    await asyncio.wait_for(failed.wait(), 60)
    [(_, result), *_] = results
    assert str(result) == "no response (Connection refused)"
    assert harness.sandbox.pushes.sent == 0
    ticket = harness.sandbox.ticket
    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=0.01, on_result=on_result)
        await receiver.wait_for_pushes(1)
    assert receiver.tickets(harness.sandbox)[0] == ticket


@pytest.mark.parametrize("error", [BrokenPipeError(), asyncio.CancelledError()])
async def test_error_of_the_callback_does_not_end_the_pushes(harness: Harness, error: BaseException) -> None:
    """An exception of on_result goes to the event loop; periodic pushes and those on demand go on."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def on_result(_push: Push, _result: PushResult) -> None:
        raise error

    async with serve_receiver() as receiver:
        harness.sandbox.push_to(receiver.url, every=0.001, on_result=on_result)
        await receiver.wait_for_pushes(3)
        harness.sandbox.push_to(receiver.url, every=None, on_result=on_result)
        assert (await harness.sandbox.push()).accepted
    assert len(reported) >= 3
    assert {context["exception"] for context in reported} == {error}


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
async def test_push_url_must_be_http_on_loopback(harness: Harness, url: Any) -> None:
    """Any other URL is a ValueError with an example of a valid one."""
    with pytest.raises(ValueError, match=f"{re.escape(repr(url))} is invalid.* such as http://127"):
        harness.sandbox.push_to(url)
    with pytest.raises(PushTargetNotSet):
        await harness.sandbox.notify("authorized")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1/x", "http://[::1]:1/", "http://127.9.9.9:1"])
async def test_push_url_may_be_any_loopback_address(harness: Harness, url: str) -> None:
    """A loopback address and the name localhost are accepted."""
    harness.sandbox.push_to(url, every=None)
    assert (await harness.sandbox.push()).status is None


async def test_second_url_replaces_the_first(harness: Harness) -> None:
    """The first URL gets no further pushes."""
    async with serve_receiver() as first, serve_receiver() as second:
        harness.sandbox.push_to(first.url, every=0.001)
        await first.wait_for_pushes(2)
        harness.sandbox.push_to(second.url, every=0.001)
        await second.wait_for_pushes(1)
        count = len(first.pushes)
        await second.wait_for_pushes(20)
        assert len(first.pushes) == count


async def test_pushing_ends_with_the_sandbox() -> None:
    """Closing the sandbox cancels a delivery and leaves no task; a closed sandbox cannot push."""
    pushed = asyncio.Event()

    async def handle(_: web.Request) -> web.StreamResponse:
        pushed.set()
        return await hang(_)

    async with serve_receiver(handle) as receiver:
        async with Sandbox() as sandbox:
            sandbox.push_to(receiver.url)
            await asyncio.wait_for(pushed.wait(), 60)
            assert push_tasks()
        assert not push_tasks()
        with pytest.raises(RuntimeError, match="not running"):
            sandbox.push_to(receiver.url)


def test_push_works_from_another_event_loop() -> None:
    """`push_to` and `push` work if the sandbox runs in another thread."""
    started, end = threading.Event(), threading.Event()
    served: list[Sandbox] = []

    async def serve() -> None:
        async with Sandbox() as sandbox:
            served.append(sandbox)
            started.set()
            await asyncio.to_thread(end.wait)

    async def test() -> None:
        async with serve_receiver() as receiver:
            served[0].push_to(receiver.url, every=0.001)
            assert (await served[0].push()).accepted
            await receiver.wait_for_pushes(3)

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        assert started.wait(60)
        asyncio.run(test())
    finally:
        end.set()
        thread.join(60)


async def test_hanging_receiver_does_not_block_calls(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform responds to calls while a push hangs."""
    monkeypatch.setattr("wxtcb.sandbox.push.delivery.DELIVERY_TIMEOUT", 3600.0)
    pushed = asyncio.Event()
    results: list[PushResult] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        pushed.set()
        return await hang(request)

    async with serve_receiver(handle) as receiver:
        harness.sandbox.push_to(receiver.url, on_result=lambda _, result: results.append(result))
        await asyncio.wait_for(pushed.wait(), 60)
        async with asyncio.timeout(60):
            for _ in range(20):
                await harness.post(PUSH, account(harness))
        assert results == []
