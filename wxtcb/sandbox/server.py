"""The platform on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from attrs import Factory, define, field

from wxtcb.sandbox.admin import ADMIN_PREFIX, handle_admin_request
from wxtcb.sandbox.faults import Faults
from wxtcb.sandbox.handlers.object_storage import ObjectRequest
from wxtcb.sandbox.push.crypto import load_encryptor_factory
from wxtcb.sandbox.push.delivery import PushClient, ResultCallback, deliver, is_loopback, parse_target
from wxtcb.sandbox.push.schedule import PushResult, PushSchedule, PushSettings, PushTargetNotSet
from wxtcb.sandbox.redaction import redact_body, redact_query
from wxtcb.sandbox.request import PlatformRequest, SeenRequest
from wxtcb.sandbox.responder import DeliveryMode, OutgoingResponse, respond
from wxtcb.sandbox.schema import DEFAULT_MAX_BODY_BYTES, ENDPOINT_SCHEMAS
from wxtcb.sandbox.services.object_storage import STORAGE_PREFIX as COS
from wxtcb.sandbox.world import World

__all__ = ["Sandbox"]

_JSON_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}
_MAX_SEEN_REQUESTS: Final = 100_000
_BACKLOG: Final = 4096
_SHUTDOWN_TIMEOUT: Final = 0.05  # not 0, which aiohttp takes for "wait without limit"


Sleep = Callable[[float], Awaitable[None]]


def _validate_loopback(_sandbox: object, _attribute: object, host: str) -> None:
    if not is_loopback(host):
        raise ValueError(f"the sandbox serves made-up credentials to whoever asks: not on {host}, only on loopback")


@define(eq=False, repr=False, kw_only=True)
class Sandbox:
    """WeChat's side of the wire, for tests and first steps; use as `async with Sandbox() as box:`.

    `port=0` takes a free one, at entering. `sleep` serves slow answers, and the pauses between pushes; everything else
    lives on `world.clock`. `seen` remembers the last 100,000 requests to the platform, refused and unknown ones
    included; `pushes` counts what was pushed, once `push_to` has said where to.
    """

    host: str = field(default="127.0.0.1", validator=_validate_loopback)
    port: int = 0
    world: World = Factory(World)
    faults: Faults = Factory(Faults)
    pushes: PushSchedule = field(init=False, default=Factory(lambda box: PushSchedule(box.world), takes_self=True))
    seen: deque[SeenRequest] = field(init=False, factory=lambda: deque[SeenRequest](maxlen=_MAX_SEEN_REQUESTS))
    counts: Counter[str] = field(init=False, factory=Counter[str])
    _sleep: Sleep = asyncio.sleep
    _runner: web.ServerRunner | None = field(init=False, default=None)
    _loop: asyncio.AbstractEventLoop | None = field(init=False, default=None)
    _push_client: PushClient | None = field(init=False, default=None)

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; the port is real once the sandbox is entered."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def component_appid(self) -> str:
        """The appid of the simulated third-party platform."""
        return self.world.credentials.appid

    @property
    def component_appsecret(self) -> str:
        """Its made-up secret."""
        return self.world.credentials.secret

    @property
    def ticket(self) -> str:
        """The newest ticket there is, pushed or not."""
        return self.world.ticket

    @property
    def message_token(self) -> str:
        """The made-up token that its pushes are signed with."""
        return self.world.message_settings.message_token

    @property
    def encoding_aes_key(self) -> str:
        """The made-up key that its pushes are encrypted with."""
        return self.world.message_settings.encoding_aes_key

    def rotate_key(self) -> str:
        """Change that key; what was encrypted before can still be under way."""
        return self.world.message_settings.rotate_key()

    def push_to(
        self,
        url: str,
        *,
        every: float | None = 600.0,
        repeated: float = 0.0,
        late: float = 0.0,
        on_result: ResultCallback | None = None,
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
        target, pace = parse_target(url), PushSettings(every=every, repeated=repeated, late=late)
        load_encryptor_factory()
        if self._loop is None:
            raise RuntimeError("pushes come from a sandbox that is entered: async with Sandbox() as box")
        old, self._push_client = self._push_client, PushClient(target, self.pushes, self._sleep, on_result)
        self.pushes.configure(pace)
        self._loop.call_soon_threadsafe(self._replace_push_client, old)

    async def push(self) -> PushResult:
        """Push a new ticket now, also where pushing has stopped, and return what came of it.

        This and the other two push where `push_to` said, and raise `PushTargetNotSet` before it has.
        """
        return await self._require_push_client().send(self.pushes.make_ticket_push())

    async def notify(self, info_type: str, **fields: str | int) -> PushResult:
        """Push something else: `notify("authorized", AuthorizerAppid="wx...")`."""
        return await self._require_push_client().send(self.pushes.make_notification(info_type, fields))

    async def push_forged(self) -> PushResult:
        """Push a ticket as somebody would who has neither token nor key; it is not counted among the pushes."""
        return await deliver(self._require_push_client().target, self.pushes.make_forged_push())

    def _replace_push_client(self, old: PushClient | None) -> None:
        if old is not None:
            old.stop()
        if self._push_client is not None and self.pushes.settings.every is not None:
            self._push_client.start()

    def _require_push_client(self) -> PushClient:
        if self._push_client is None:
            raise PushTargetNotSet
        return self._push_client

    def count(self, path: str) -> int:
        """Return how many requests this path has had, all since the start."""
        return self.counts[path]

    def list_seen(self) -> list[SeenRequest]:
        """Return what was seen, oldest first."""
        return list(self.seen)

    async def __aenter__(self) -> Self:
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, backlog=_BACKLOG).start()
        except BaseException:
            await self._close()
            raise
        self.port = runner.addresses[0][1]
        self.world.base_url = self.url
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        pusher, self._push_client = self._push_client, None
        self._loop = None
        if pusher is not None:
            await pusher.aclose()
        if runner is not None:
            await runner.cleanup()
        self.world.storage.objects.clear()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(COS):
            return await self._serve_object(request)
        raw = await _read_body(request, _max_body_bytes(request.path))
        if request.path.startswith(ADMIN_PREFIX):
            page = await handle_admin_request(self, request.method, request.path, raw or b"")
            return web.Response(body=page.body, status=page.status, headers=_JSON_HEADERS)
        asked = PlatformRequest.parse(request.method, request.path_qs, request.query, raw)
        out = self._respond(asked)
        self._record_request(asked, out)
        return await _send_outgoing(request, out, self._sleep)

    async def _serve_object(self, request: web.BaseRequest) -> web.StreamResponse:
        wish = ObjectRequest.from_request(request)
        fault = self.faults.next_fault(wish.fault_path)
        self.counts[wish.fault_path] += 1
        response = await wish.serve(self.world.storage.objects, fault, self._sleep)
        outcome = fault.trouble.value if fault else "answered"
        self.seen.append(SeenRequest(wish.fault_path, {}, None, self.world.clock(), None, outcome, wish.acted))
        return response

    def _respond(self, request: PlatformRequest) -> OutgoingResponse:
        stopped = self.pushes.stopped
        out = respond(self.world, self.faults, request)
        if stopped and not self.pushes.stopped:
            self.pushes.start()
            if self._push_client is not None:
                self._push_client.start()
        return out

    def _record_request(self, request: PlatformRequest, outgoing: OutgoingResponse) -> None:
        self.counts[request.path] += 1
        query, body = redact_query(request.query), redact_body(request.parsed_body)
        now = self.world.clock()
        self.seen.append(
            SeenRequest(request.path, query, body, now, outgoing.errcode, outgoing.outcome, outgoing.acted)
        )

    def __repr__(self) -> str:
        return f"<Sandbox at {self.url}>"


def _max_body_bytes(path: str) -> int:
    call = ENDPOINT_SCHEMAS.get(path)
    return DEFAULT_MAX_BODY_BYTES if call is None else call.max_body_bytes


async def _read_body(request: web.BaseRequest, max_bytes: int) -> bytes | None:
    """Read a body of up to *most* bytes; of a longer one the rest is left, and None returned."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


_MEGABYTE: Final = b"x" * (1 << 20)


async def _send_outgoing(request: web.BaseRequest, outgoing: OutgoingResponse, sleep: Sleep) -> web.StreamResponse:
    """Send an answer in the manner laid down; a client that leaves or a sandbox that closes cancels this."""
    if outgoing.delay:
        await sleep(outgoing.delay)
    if outgoing.delivery_mode is DeliveryMode.COMPLETE:
        return web.Response(body=outgoing.body, status=outgoing.status, headers=outgoing.headers)
    return await _SENDERS[outgoing.delivery_mode](request, outgoing)


async def _drop(request: web.BaseRequest, _outgoing: OutgoingResponse) -> web.StreamResponse:
    request.protocol.force_close()
    return web.Response()


async def _hang(_request: web.BaseRequest, _outgoing: OutgoingResponse) -> web.StreamResponse:
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


async def _truncate(request: web.BaseRequest, outgoing: OutgoingResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={**outgoing.headers, "Content-Length": str(len(outgoing.body))})
    await response.prepare(request)
    await response.write(outgoing.body[: len(outgoing.body) // 2])
    request.protocol.force_close()
    return response


async def _pad(request: web.BaseRequest, outgoing: OutgoingResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers=outgoing.headers)
    await response.prepare(request)
    await response.write(outgoing.body[:-1] + b',"padding":"')
    for _ in range(outgoing.megabytes):
        await response.write(_MEGABYTE)
    await response.write(b'"}')
    return response


_SENDERS: Final = {
    DeliveryMode.DROPPED: _drop,
    DeliveryMode.HUNG: _hang,
    DeliveryMode.TRUNCATED: _truncate,
    DeliveryMode.PADDED: _pad,
}
