"""HTTP server of the simulated platform, on loopback."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from attrs import Factory, define, evolve, field

from wxtcb.sandbox.admin import ADMIN_PREFIX, handle_admin_request
from wxtcb.sandbox.cos.http_api import ObjectRequest
from wxtcb.sandbox.cos.store import STORAGE_PREFIX
from wxtcb.sandbox.faults import Faults
from wxtcb.sandbox.push.crypto import load_encryptor_factory
from wxtcb.sandbox.push.delivery import (
    ASGIApp,
    PushClient,
    ResultCallback,
    deliver,
    deliver_to_app,
    is_loopback,
    parse_target,
)
from wxtcb.sandbox.push.schedule import PushResult, PushSchedule, PushSettings, PushTargetNotSet
from wxtcb.sandbox.request import PlatformRequest, SeenRequest
from wxtcb.sandbox.request_log import SeenLog
from wxtcb.sandbox.responder import DeliveryMode, OutgoingResponse, respond
from wxtcb.sandbox.schema import DEFAULT_MAX_BODY_BYTES, ENDPOINT_SCHEMAS
from wxtcb.sandbox.world import World

Sleep = Callable[[float], Awaitable[None]]

_JSON_HEADERS: Final = {"Content-Type": "application/json; charset=utf-8"}
_MAX_COUNTED_PATHS: Final = 1000
# A load test opens thousands of connections at once; the default of 128 would make the kernel drop some.
_BACKLOG: Final = 4096
# Not 0: aiohttp waits without limit then. Hanging responses never end, so any wait for them is lost time.
_SHUTDOWN_TIMEOUT: Final = 0.05
_PADDING_CHUNK: Final = b"x" * (1 << 20)


def _validate_loopback(_sandbox: object, _attribute: object, host: str) -> None:
    if not is_loopback(host):
        advice = "the sandbox gives its credentials to every client, so use 127.0.0.1"
        raise ValueError(f"host {host!r} is not on loopback: {advice}")


@define(eq=False, repr=False, kw_only=True)
class Sandbox:
    """WeChat's side of the protocol, for tests and first steps: `async with Sandbox() as sandbox:`.

    - `host`: an address of this machine's loopback interface; anything else raises `ValueError`.
    - `port`: 0 picks a free port when the sandbox is entered.
    - `world`: state of the simulated platform.
    - `faults`: what goes wrong with which request.
    - `pushes`: schedule and counters of the pushes that `push_to` starts.
    - `seen`: the newest requests to the platform, including rejected ones and unknown paths; 100,000 at most, and 32
      MiB of URLs and bodies.
    - `counts`: number of all requests by path; unknown paths above the first 1,000 are not counted.
    - `sleep`: used by slow responses and between pushes; all other times are on `world.clock`.
    """

    host: str = field(default="127.0.0.1", validator=_validate_loopback)
    port: int = 0
    world: World = Factory(World)
    faults: Faults = Factory(Faults)
    pushes: PushSchedule = field(init=False, default=Factory(lambda self: PushSchedule(self.world), takes_self=True))
    counts: Counter[str] = field(init=False, factory=Counter[str])
    _seen_log: SeenLog = field(init=False, factory=SeenLog)
    _sleep: Sleep = asyncio.sleep
    _runner: web.ServerRunner | None = field(init=False, default=None)
    _loop: asyncio.AbstractEventLoop | None = field(init=False, default=None)
    _push_client: PushClient | None = field(init=False, default=None)

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; the port is the real one once the sandbox is entered."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def seen(self) -> deque[SeenRequest]:
        """Requests to the platform, oldest first."""
        return self._seen_log.requests

    @property
    def component_appid(self) -> str:
        return self.world.credentials.appid

    @property
    def component_appsecret(self) -> str:
        return self.world.credentials.secret

    @property
    def ticket(self) -> str:
        """Newest component_verify_ticket (验证票据), pushed or not."""
        return self.world.ticket

    @property
    def message_token(self) -> str:
        return self.world.message_settings.message_token

    @property
    def encoding_aes_key(self) -> str:
        return self.world.message_settings.encoding_aes_key

    def rotate_key(self) -> str:
        """Replace the EncodingAESKey and return the new one; messages in delivery still use the previous key."""
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
        """Push a new ticket to *url* now and then periodically; a previous URL gets no further pushes.

        *url* must be an http URL on loopback. *every* is in seconds; None pushes only on demand. *repeated* and *late*
        are fractions of the pushes (0 to 1): delivered twice, or followed by the previous one once more. *on_result* is
        called after each delivery.

        A delivery fails unless the response is HTTP 200 with exactly `success` within 5 s. Until the receiver has
        accepted a push, the newest ticket is pushed again every second. Afterwards, 5 consecutive failures stop pushing
        until api_start_push_ticket is called.

        May be called from another thread. Raises `ValueError` for an invalid argument, `ImportError` without the extra
        `ticket`, and `RuntimeError` if the sandbox is not entered.
        """
        target, settings = parse_target(url), PushSettings(every=every, repeated=repeated, late=late)
        load_encryptor_factory()
        if self._loop is None:
            raise RuntimeError("the sandbox is not running: call push_to inside `async with Sandbox() as sandbox`")
        previous, self._push_client = self._push_client, PushClient(target, self.pushes, self._sleep, on_result)
        self.pushes.configure(settings)
        # The caller may run in another thread, where tasks of this loop must not be touched.
        self._loop.call_soon_threadsafe(self._replace_push_client, previous)

    async def push(self) -> PushResult:
        """Push a new ticket now, even if pushing has stopped, and return the result.

        Raises `PushTargetNotSet` before `push_to`; so do `notify` and `push_forged`.
        """
        return await self._require_push_client().send(self.pushes.make_ticket_push())

    async def notify(self, info_type: str, **fields: str | int) -> PushResult:
        """Push another message, such as `notify("authorized", AuthorizerAppid="wx...")`, and return the result."""
        return await self._require_push_client().send(self.pushes.make_notification(info_type, fields))

    async def push_forged(self) -> PushResult:
        """Push a ticket signed and encrypted with the wrong token and key; it is not counted in `pushes`."""
        return await deliver(self._require_push_client().target, self.pushes.make_forged_push())

    async def deliver(self, app: ASGIApp, path: str = "/wechat/push") -> PushResult:
        """Push a new ticket to *path* of an ASGI application in this event loop, without a socket; return the result.

        The application must have started. With Starlette's TestClient: `client.portal.call(sandbox.deliver, app)`.
        Exceptions of the application are raised. Raises `ImportError` without the extra `ticket`.
        """
        result = await deliver_to_app(app, path, self.pushes.make_ticket_push())
        self.pushes.record_result(result)
        return result

    def reset(self) -> None:
        """Replace `world` by a new one with the same settings and credentials; clear faults, `seen` and `counts`."""
        previous = self.world
        previous.storage.objects.clear()
        self.world = evolve(previous, started_at_unix=previous.unix_time())
        # The same objects: programs that are running keep their ticket and token.
        self.world.credentials, self.world.message_settings = previous.credentials, previous.message_settings
        self.world.ticket = previous.ticket
        self.pushes.world = self.world
        self.faults.clear()
        self.seen.clear()
        self.counts.clear()

    def count(self, path: str) -> int:
        return self.counts[path]

    def list_seen(self) -> list[SeenRequest]:
        return list(self.seen)

    def _replace_push_client(self, previous: PushClient | None) -> None:
        if previous is not None:
            previous.stop()
        if self._push_client is not None and self.pushes.settings.every is not None:
            self._push_client.start()

    def _require_push_client(self) -> PushClient:
        if self._push_client is None:
            raise PushTargetNotSet
        return self._push_client

    if not TYPE_CHECKING:
        # For a type checker the methods do not exist, so that it reports the mistake.
        def __enter__(self) -> None:
            raise TypeError("a Sandbox needs `async with`, not `with`")

        def __exit__(self, *_: object) -> None: ...

    async def __aenter__(self) -> Self:
        # handler_cancellation: a handler ends when its client disconnects, which is the only end of a hanging response.
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, backlog=_BACKLOG).start()
        except BaseException:
            await self.__aexit__()
            raise
        self.port = runner.addresses[0][1]
        self.world.base_url = self.url
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_exc_info: object) -> None:
        runner, self._runner = self._runner, None
        push_client, self._push_client = self._push_client, None
        self._loop = None
        if push_client is not None:
            await push_client.aclose()
        if runner is not None:
            await runner.cleanup()
        # Objects are temporary files; the rest of the world stays readable after the sandbox is closed.
        self.world.storage.objects.clear()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(STORAGE_PREFIX):
            return await self._serve_object(request)
        raw_body = await _read_body(request)
        if request.path.startswith(ADMIN_PREFIX):
            status, page = await handle_admin_request(
                self, request.method, request.path, request.headers, raw_body or b""
            )
            return web.Response(body=page, status=status, headers=_JSON_HEADERS)
        parsed = PlatformRequest.parse(request.method, request.path_qs, request.query, raw_body)
        was_stopped = self.pushes.stopped
        outgoing = respond(self.world, self.faults, parsed)
        if was_stopped and not self.pushes.stopped:
            # The call was api_start_push_ticket.
            self.pushes.start()
            if self._push_client is not None:
                self._push_client.start()
        # Recorded before it is sent: a hanging or dropped response is seen as well.
        if parsed.path in ENDPOINT_SCHEMAS or parsed.path in self.counts or len(self.counts) < _MAX_COUNTED_PATHS:
            self.counts[parsed.path] += 1
        self._seen_log.record(parsed, self.world.clock(), outgoing.errcode, outgoing.outcome, acted=outgoing.acted)
        return await _send(request, outgoing, self._sleep)

    async def _serve_object(self, request: web.BaseRequest) -> web.StreamResponse:
        object_request = ObjectRequest(request)
        # Faults name these requests `/_cos/post`, `/_cos/put` or `/_cos/get`.
        path = object_request.link_method.value
        fault = self.faults.next_fault(path)
        self.counts[path] += 1
        response = await object_request.serve(self.world.storage.objects, fault, self._sleep)
        outcome = fault.kind.value if fault else "answered"
        self._seen_log.add(SeenRequest(path, {}, None, self.world.clock(), None, outcome, object_request.acted))
        return response

    def __repr__(self) -> str:
        return f"<Sandbox at {self.url}>"


async def _read_body(request: web.BaseRequest) -> bytes | None:
    """Return the body, or None without reading the rest if it is longer than the path allows."""
    schema, body = ENDPOINT_SCHEMAS.get(request.path), bytearray()
    max_bytes = DEFAULT_MAX_BODY_BYTES if schema is None else schema.max_body_bytes
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            return None
    return bytes(body)


async def _send(request: web.BaseRequest, outgoing: OutgoingResponse, sleep: Sleep) -> web.StreamResponse:
    """Send a response in its delivery mode; a client that disconnects and a closing sandbox cancel this."""
    if outgoing.delay:
        await sleep(outgoing.delay)
    match outgoing.delivery_mode:
        case DeliveryMode.DROPPED:
            # aiohttp demands a response from every handler; of this one, nothing is sent after `force_close`.
            request.protocol.force_close()
            return web.Response()
        case DeliveryMode.HUNG:
            return await asyncio.Future[web.StreamResponse]()
        case DeliveryMode.TRUNCATED:
            response = web.StreamResponse(headers={**outgoing.headers, "Content-Length": str(len(outgoing.body))})
            await response.prepare(request)
            await response.write(outgoing.body[: len(outgoing.body) // 2])
            request.protocol.force_close()
            return response
        case DeliveryMode.PADDED:
            # Written in pieces, so that a client that stops reading makes the sandbox wait, not grow.
            response = web.StreamResponse(headers=outgoing.headers)
            await response.prepare(request)
            await response.write(outgoing.body[:-1] + b',"padding":"')
            for _ in range(outgoing.megabytes):
                await response.write(_PADDING_CHUNK)
            await response.write(b'"}')
            return response
        case _:
            return web.Response(body=outgoing.body, status=outgoing.status, headers=outgoing.headers)
