"""The platform on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from attrs import Factory, define, field

from wxtcb.sandbox.admin import PREFIX, control
from wxtcb.sandbox.faults import Faults
from wxtcb.sandbox.handlers.object_storage import ObjectRequest
from wxtcb.sandbox.push.crypto import load_cipher
from wxtcb.sandbox.push.delivery import Pusher, Told, deliver, is_loopback, read_target
from wxtcb.sandbox.push.schedule import NoReceiver, Pace, Pushes, Receipt
from wxtcb.sandbox.redaction import mask_body, mask_query
from wxtcb.sandbox.request import Asked, SeenRequest
from wxtcb.sandbox.responder import Manner, Outgoing, respond
from wxtcb.sandbox.schema import CALLS, MOST
from wxtcb.sandbox.services.object_storage import PREFIX as COS
from wxtcb.sandbox.world import World

__all__ = ["Sandbox"]

_JSON: Final = {"Content-Type": "application/json; charset=utf-8"}
_REMEMBERED: Final = 100_000
_BACKLOG: Final = 4096
_GRACE: Final = 0.05  # not 0, which aiohttp takes for "wait without limit"


Sleep = Callable[[float], Awaitable[None]]


def _loopback_only(_box: object, _attribute: object, host: str) -> None:
    if not is_loopback(host):
        raise ValueError(f"the sandbox serves made-up credentials to whoever asks: not on {host}, only on loopback")


@define(eq=False, repr=False, kw_only=True)
class Sandbox:
    """WeChat's side of the wire, for tests and first steps; use as `async with Sandbox() as box:`.

    `port=0` takes a free one, at entering. `sleep` serves slow answers, and the pauses between pushes; everything else
    lives on `world.clock`. `seen` remembers the last 100,000 requests to the platform, refused and unknown ones
    included; `pushes` counts what was pushed, once `push_to` has said where to.
    """

    host: str = field(default="127.0.0.1", validator=_loopback_only)
    port: int = 0
    world: World = Factory(World)
    faults: Faults = Factory(Faults)
    pushes: Pushes = field(init=False, default=Factory(lambda box: Pushes(box.world), takes_self=True))
    seen: deque[SeenRequest] = field(init=False, factory=lambda: deque[SeenRequest](maxlen=_REMEMBERED))
    counts: Counter[str] = field(init=False, factory=Counter[str])
    _sleep: Sleep = asyncio.sleep
    _runner: web.ServerRunner | None = field(init=False, default=None)
    _loop: asyncio.AbstractEventLoop | None = field(init=False, default=None)
    _pusher: Pusher | None = field(init=False, default=None)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; the port is real once the sandbox is entered."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def component_appid(self) -> str:
        """The appid of the simulated third-party platform."""
        return self.world.tokens.appid

    @property
    def component_appsecret(self) -> str:
        """Its made-up secret."""
        return self.world.tokens.secret

    @property
    def ticket(self) -> str:
        """The newest ticket there is, pushed or not."""
        return self.world.ticket

    @property
    def message_token(self) -> str:
        """The made-up token that its pushes are signed with."""
        return self.world.console.message_token

    @property
    def encoding_aes_key(self) -> str:
        """The made-up key that its pushes are encrypted with."""
        return self.world.console.encoding_aes_key

    def rotate_key(self) -> str:
        """Change that key; what was encrypted before can still be under way."""
        return self.world.console.rotate_key()

    def push_to(
        self,
        url: str,
        *,
        every: float | None = 600.0,
        repeated: float = 0.0,
        late: float = 0.0,
        told: Told | None = None,
    ) -> None:
        """Push a new ticket to *url* now, and every so many seconds from now on; nowhere else any more.

        *url* is http on this machine. As long as nobody has ever answered there, the first push is delivered again
        every second. An answer other than HTTP 200 with exactly `success`, or none within 5 s, is a failure; after 5 in
        a row pushing stops, until api_start_push_ticket is called. *every* None: only what is asked for is pushed.
        *repeated* and *late* are fractions of the pushes: delivered twice; followed by the one before it, once more.
        *told* is called after each delivery.

        Raises `ValueError` for another *url* and for numbers out of range, `ImportError` without the extra `[ticket]`,
        and `RuntimeError` if the sandbox is not entered.
        """
        target, pace = read_target(url), Pace(every=every, repeated=repeated, late=late)
        load_cipher()
        if self._loop is None:
            raise RuntimeError("pushes come from a sandbox that is entered: async with Sandbox() as box")
        old, self._pusher = self._pusher, Pusher(target, self.pushes, self._sleep, told)
        self.pushes.aim(pace)
        self._loop.call_soon_threadsafe(self._switch, old)

    async def push(self) -> Receipt:
        """Push a new ticket now, also where pushing has stopped, and return what came of it.

        This and the other two push where `push_to` said, and raise `NoReceiver` before it has.
        """
        return await self._receiver().send(self.pushes.ticket())

    async def notify(self, info_type: str, **fields: str | int) -> Receipt:
        """Push something else: `notify("authorized", AuthorizerAppid="wx...")`."""
        return await self._receiver().send(self.pushes.notice(info_type, fields))

    async def forge(self) -> Receipt:
        """Push a ticket as somebody would who has neither token nor key; it is not counted among the pushes."""
        return await deliver(self._receiver().target, self.pushes.forgery())

    def _switch(self, old: Pusher | None) -> None:
        if old is not None:
            old.end()
        if self._pusher is not None and self.pushes.pace.every is not None:
            self._pusher.begin()

    def _receiver(self) -> Pusher:
        if self._pusher is None:
            raise NoReceiver
        return self._pusher

    def count(self, path: str) -> int:
        """Return how many requests this path has had, all since the start."""
        return self.counts[path]

    def recent(self) -> list[SeenRequest]:
        """Return what was seen, oldest first."""
        return list(self.seen)

    async def __aenter__(self) -> Self:
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = self._runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, backlog=_BACKLOG).start()
        except BaseException:
            await self._close()
            raise
        self.port = runner.addresses[0][1]
        self.world.origin = self.url
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        pusher, self._pusher = self._pusher, None
        self._loop = None
        if pusher is not None:
            await pusher.aclose()
        if runner is not None:
            await runner.cleanup()
        self.world.storage.objects.clear()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(COS):
            return await self._serve_object(request)
        raw = await _read(request, _most_of(request.path))
        if request.path.startswith(PREFIX):
            page = await control(self, request.method, request.path, raw or b"")
            return web.Response(body=page.body, status=page.status, headers=_JSON)
        asked = Asked.read(request.method, request.path_qs, request.query, raw)
        out = self._respond(asked)
        self._note(asked, out)
        return await _deliver(request, out, self._sleep)

    async def _serve_object(self, request: web.BaseRequest) -> web.StreamResponse:
        wish = ObjectRequest.read(request)
        fault = self.faults.choose(wish.path)
        self.counts[wish.path] += 1
        response = await wish.serve(self.world.storage.objects, fault, self._sleep)
        outcome = fault.trouble.value if fault else "answered"
        self.seen.append(SeenRequest(wish.path, {}, None, self.world.clock(), None, outcome, wish.acted))
        return response

    def _respond(self, asked: Asked) -> Outgoing:
        stopped = self.pushes.stopped
        out = respond(self.world, self.faults, asked)
        if stopped and not self.pushes.stopped:
            self.pushes.start()
            if self._pusher is not None:
                self._pusher.begin()
        return out

    def _note(self, asked: Asked, out: Outgoing) -> None:
        self.counts[asked.path] += 1
        query, body = mask_query(asked.query), mask_body(asked.document)
        now = self.world.clock()
        self.seen.append(SeenRequest(asked.path, query, body, now, out.errcode, out.outcome, out.acted))

    def __repr__(self) -> str:
        return f"<Sandbox at {self.url}>"


def _most_of(path: str) -> int:
    call = CALLS.get(path)
    return MOST if call is None else call.most


async def _read(request: web.BaseRequest, most: int) -> bytes | None:
    """Read a body of up to *most* bytes; of a longer one the rest is left, and None returned."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


_MEGABYTE: Final = b"x" * (1 << 20)


async def _deliver(request: web.BaseRequest, out: Outgoing, sleep: Sleep) -> web.StreamResponse:
    """Send an answer in the manner laid down; a client that leaves or a sandbox that closes cancels this."""
    if out.delay:
        await sleep(out.delay)
    if out.manner is Manner.WHOLE:
        return web.Response(body=out.body, status=out.status, headers=out.headers)
    return await _OTHERWISE[out.manner](request, out)


async def _drop(request: web.BaseRequest, _out: Outgoing) -> web.StreamResponse:
    request.protocol.force_close()
    return web.Response()


async def _hang(_request: web.BaseRequest, _out: Outgoing) -> web.StreamResponse:
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


async def _truncate(request: web.BaseRequest, out: Outgoing) -> web.StreamResponse:
    response = web.StreamResponse(headers={**out.headers, "Content-Length": str(len(out.body))})
    await response.prepare(request)
    await response.write(out.body[: len(out.body) // 2])
    request.protocol.force_close()
    return response


async def _pad(request: web.BaseRequest, out: Outgoing) -> web.StreamResponse:
    response = web.StreamResponse(headers=out.headers)
    await response.prepare(request)
    await response.write(out.body[:-1] + b',"padding":"')
    for _ in range(out.megabytes):
        await response.write(_MEGABYTE)
    await response.write(b'"}')
    return response


_OTHERWISE: Final = {
    Manner.DROPPED: _drop,
    Manner.HUNG: _hang,
    Manner.TRUNCATED: _truncate,
    Manner.PADDED: _pad,
}
