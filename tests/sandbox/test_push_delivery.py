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

from .receiver import read_push, receiving
from .sandbox_harness import PUSH, Rig


def account(rig: Rig) -> dict[str, str]:
    """Return the body that starts the push."""
    return {"component_appid": rig.box.component_appid, "component_secret": rig.box.component_appsecret}


async def test_a_ticket_is_pushed_on_demand(rig: Rig) -> None:
    """As XML, with the query of the platform, to the address given with its own query; the newest ticket is in it."""
    async with receiving() as receiver:
        rig.box.push_to(f"{receiver.url}?tenant=1", every=None)
        assert (await rig.box.push()).accepted
        assert receiver.tickets(rig.box) == [rig.box.ticket]
        [(query, _)] = receiver.pushes
    assert [*query] == ["tenant", "signature", "timestamp", "nonce", "encrypt_type", "msg_signature"]
    assert receiver.headers["Content-Type"] == "text/xml"
    assert "Accept-Encoding" not in receiver.headers


async def test_other_messages_are_pushed_on_demand(rig: Rig) -> None:
    """With fields of one's own."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=None)
        assert (await rig.box.notify("unauthorized", AuthorizerAppid="wx1")).accepted
        [push] = receiver.pushes
    message = read_push(*push, rig.box.world.message_settings)
    assert (message["InfoType"], message["AuthorizerAppid"]) == ("unauthorized", "wx1")


async def test_the_key_is_changed_between_pushes(rig: Rig) -> None:
    """What comes late was encrypted with the key before."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=None)
        old = rig.box.encoding_aes_key
        await rig.box.push()
        assert rig.box.rotate_key() == rig.box.encoding_aes_key != old
        await rig.box.push()
    first, second = receiver.pushes
    assert read_push(*first, rig.box.world.message_settings, key=old)
    assert read_push(*second, rig.box.world.message_settings)["ComponentVerifyTicket"] == rig.box.ticket


async def test_a_forgery_counts_as_nothing(rig: Rig) -> None:
    """It is the receiver's to refuse."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=None)
        receiver.answers.append(web.Response(status=403, text="bad signature"))
        assert await rig.box.push_forged() == PushResult(403, b"bad signature")
        [push] = receiver.pushes
    with pytest.raises(AssertionError):
        read_push(*push, rig.box.world.message_settings)
    assert (rig.box.pushes.sent, rig.box.pushes.failed) == (0, 0)


async def test_a_day_of_pushes_takes_no_time(rig: Rig) -> None:
    """The pauses are the sandbox's `sleep`: under one that moves the clock, every ten minutes come at once."""

    async def sleep(seconds: float) -> None:
        if box.pushes.sent == 144:
            await asyncio.Event().wait()
        rig.clock.pass_(seconds)

    async with Sandbox(world=rig.box.world, sleep=sleep) as box, receiving() as receiver:
        box.push_to(receiver.url)
        await receiver.hears(144)
        tickets = receiver.tickets(box)
    assert len(set(tickets)) == 144
    assert tickets[-1] == box.ticket
    assert rig.clock.now == 1_200_000 + 143 * 600


def pushers() -> set[asyncio.Task[Any]]:
    """Return the tasks that push by themselves."""
    return {task for task in asyncio.all_tasks() if "PushClient._run" in repr(task)}


async def test_what_is_pushed_is_not_pushed_twice(rig: Rig) -> None:
    """Asked while it goes on, the platform goes on; asked after it stopped, it has one pace, not two."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url)
        await receiver.hears(1)
        before = pushers()
        await rig.post(PUSH, account(rig))
        assert pushers() == before
        receiver.answers.extend(web.Response(status=500) for _ in range(MAX_CONSECUTIVE_FAILURES))
        for _ in range(MAX_CONSECUTIVE_FAILURES):
            await rig.box.push()
        await rig.post(PUSH, account(rig))
        await receiver.hears(MAX_CONSECUTIVE_FAILURES + 2)
        assert len(pushers()) == 1
        assert pushers() != before


async def test_pushing_stops_and_starts_again(rig: Rig) -> None:
    """After failures in a row nothing comes, until the platform is asked; then something comes at once."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=0.001)
        receiver.answers.extend(web.Response(text="fail") for _ in range(MAX_CONSECUTIVE_FAILURES))
        await receiver.hears(MAX_CONSECUTIVE_FAILURES)
        [pushing] = pushers()
        await asyncio.wait([pushing], timeout=60)
        assert len(receiver.pushes) == MAX_CONSECUTIVE_FAILURES
        assert (await rig.post(PUSH, account(rig)))["errmsg"] == "ok"
        await receiver.hears(MAX_CONSECUTIVE_FAILURES + 2)
        assert (await rig.post(PUSH, account(rig)))["errmsg"] == "in a normal state"
    assert rig.box.pushes.failed == MAX_CONSECUTIVE_FAILURES


async def test_pushing_that_has_stopped_is_still_done_on_demand(rig: Rig) -> None:
    """And a success does not start it."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=None)
        receiver.answers.extend(web.Response(status=500) for _ in range(MAX_CONSECUTIVE_FAILURES))
        assert not any([(await rig.box.push()).accepted for _ in range(MAX_CONSECUTIVE_FAILURES)])
        assert (await rig.box.push()).accepted
        assert rig.box.pushes.stopped
        await rig.post(PUSH, account(rig))
        await receiver.hears(MAX_CONSECUTIVE_FAILURES + 2)


async def test_pushing_is_started_before_anybody_is_there(rig: Rig) -> None:
    """The platform only remembers it."""
    assert (await rig.post(PUSH, account(rig)))["errmsg"] == "ok"
    with pytest.raises(PushTargetNotSet, match=r"push_to\(url\) comes first"):
        await rig.box.push()


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "success\n"},
        {"text": "success", "status": 202},
        {"status": 302, "headers": {"Location": "/push"}, "text": "success"},
        {"body": b"success" * 100_000},
    ],
)
async def test_no_other_answer_will_do(rig: Rig, answer: dict[str, Any]) -> None:
    """A redirect is not followed, and of a long answer only the start is read."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=None)
        receiver.answers.append(web.Response(**answer))
        receipt = await rig.box.push()
        assert (receipt.accepted, receipt.status) == (False, answer.get("status", 200))
        assert len(receipt.response_body) <= 64
        assert (len(receiver.pushes), rig.box.pushes.failed) == (1, 1)


async def test_a_success_that_is_squeezed_is_none(rig: Rig) -> None:
    """The platform looks at the bytes."""
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=None)
        receiver.answers.append(web.Response(body=gzip.compress(b"success"), headers={"Content-Encoding": "gzip"}))
        assert (await rig.box.push()).response_body.startswith(b"\x1f\x8b")


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
async def test_a_slow_receiver_is_cut_off(rig: Rig, handler: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five seconds in all, here fewer, however it wastes them."""
    monkeypatch.setattr("wxtcb.sandbox.push.delivery.DELIVERY_TIMEOUT", 0.1)
    async with receiving(handler) as receiver:
        rig.box.push_to(receiver.url, every=None)
        assert str(await rig.box.push()) == "no answer within 0.1 s"


async def test_a_receiver_that_leaves_is_told(rig: Rig) -> None:
    """By the name of what went wrong."""

    async def leave(request: web.Request) -> web.StreamResponse:
        request.protocol.force_close()
        return web.Response()

    async with receiving(leave) as receiver:
        rig.box.push_to(receiver.url, every=None)
        assert str(await rig.box.push()) == "no answer (ServerDisconnectedError)"


async def test_a_receiver_may_come_later(rig: Rig) -> None:
    """It gets the push that was kept for it."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    told: list[tuple[Push, PushResult]] = []
    failed = asyncio.Event()

    def tell(push: Push, receipt: PushResult) -> None:
        told.append((push, receipt))
        failed.set()

    rig.box.push_to(f"http://127.0.0.1:{port}/", every=0.01, on_result=tell)
    await asyncio.wait_for(failed.wait(), 60)
    [(push, receipt), *_] = told
    assert str(receipt) == "no answer (Connection refused)"
    assert rig.box.pushes.sent == 0
    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=0.01, on_result=tell)
        await receiver.hears(1)
    assert receiver.pushes[0] == (push.query, push.body)


@pytest.mark.parametrize("mistake", [BrokenPipeError(), asyncio.CancelledError()])
async def test_who_hears_of_the_pushes_cannot_end_them(rig: Rig, mistake: BaseException) -> None:
    """What it raises goes to the loop; the next push comes in time, and one on demand has its receipt."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def tell(_push: Push, _receipt: PushResult) -> None:
        raise mistake

    async with receiving() as receiver:
        rig.box.push_to(receiver.url, every=0.001, on_result=tell)
        await receiver.hears(3)
        rig.box.push_to(receiver.url, every=None, on_result=tell)
        assert (await rig.box.push()).accepted
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
async def test_only_this_machine_is_pushed_to(rig: Rig, url: Any) -> None:
    """Whatever else an address looks like; the error shows what one looks like."""
    with pytest.raises(ValueError, match=f"on this machine only, as in http://127.*, not to {re.escape(repr(url))}$"):
        rig.box.push_to(url)
    with pytest.raises(PushTargetNotSet):
        await rig.box.notify("authorized")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1/x", "http://[::1]:1/", "http://127.9.9.9:1"])
async def test_every_name_of_this_machine_is_known(rig: Rig, url: str) -> None:
    """By address and by name."""
    rig.box.push_to(url, every=None)
    assert (await rig.box.push()).status is None


async def test_another_address_takes_the_place_of_the_first(rig: Rig) -> None:
    """The first gets nothing more."""
    async with receiving() as first, receiving() as second:
        rig.box.push_to(first.url, every=0.001)
        await first.hears(2)
        rig.box.push_to(second.url, every=0.001)
        await second.hears(1)
        heard = len(first.pushes)
        await second.hears(20)
        assert len(first.pushes) == heard


async def test_pushing_ends_with_the_sandbox() -> None:
    """In the middle of a push, too, and nothing is left behind; a sandbox that is not entered pushes nothing."""
    pushed = asyncio.Event()

    async def take(_: web.Request) -> web.StreamResponse:
        pushed.set()
        return await hang(_)

    async with receiving(take) as receiver:
        async with Sandbox() as box:
            box.push_to(receiver.url)
            await asyncio.wait_for(pushed.wait(), 60)
            assert pushers()
        assert not pushers()
        with pytest.raises(RuntimeError, match="a sandbox that is entered"):
            box.push_to(receiver.url)


def test_tests_that_run_another_loop_can_push() -> None:
    """The sandbox's loop may be in another thread: `push_to` and `push` work from here."""
    up, end = threading.Event(), threading.Event()
    made: list[Sandbox] = []

    async def serve() -> None:
        async with Sandbox() as box:
            made.append(box)
            up.set()
            await asyncio.to_thread(end.wait)

    async def test() -> None:
        async with receiving() as receiver:
            made[0].push_to(receiver.url, every=0.001)
            assert (await made[0].push()).accepted
            await receiver.hears(3)

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    try:
        assert up.wait(60)
        asyncio.run(test())
    finally:
        end.set()
        thread.join(60)


async def test_a_dead_receiver_holds_nobody_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a push hangs, the platform answers."""
    monkeypatch.setattr("wxtcb.sandbox.push.delivery.DELIVERY_TIMEOUT", 3600.0)
    pushed = asyncio.Event()
    told: list[PushResult] = []

    async def take(request: web.Request) -> web.StreamResponse:
        pushed.set()
        return await hang(request)

    async with receiving(take) as receiver:
        rig.box.push_to(receiver.url, on_result=lambda _, receipt: told.append(receipt))
        await asyncio.wait_for(pushed.wait(), 60)
        async with asyncio.timeout(60):
            for _ in range(20):
                await rig.post(PUSH, account(rig))
        assert told == []
