"""Fixtures of the provisioning tests: sessions whose transport calls a sandbox directly, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
import pytest_asyncio
from attrs import define, field
from yarl import URL

import wxtcb
from wxtcb import session as session_module
from wxtcb._http.transport import Request, Response, ResponseTooLarge, SendCancelled, SendFailure, SendResult, Vetoed
from wxtcb.provision import Provisioner, Report, Tenant
from wxtcb.provision.events import RunEvent
from wxtcb.sandbox import Sandbox, World
from wxtcb.sandbox.request import PlatformRequest
from wxtcb.sandbox.responder import DeliveryMode, OutgoingResponse, respond

from .fake_platform import record_request
from .storages import journal, new_storage, other, storage

# Fixtures of the conformance tests.
__all__ = ["journal", "new_storage", "other", "storage"]

EPOCH = 1_800_000_000.0
FAILURES = {
    DeliveryMode.DROPPED: SendFailure("the connection was lost", sent=True),
    DeliveryMode.TRUNCATED: SendFailure("the reply was cut off", sent=True),
    DeliveryMode.PADDED: ResponseTooLarge(200),
}


@define(eq=False)
class Wire:
    """A transport into a sandbox of the same loop.

    A response takes `latency` seconds, at most `whole` seconds (the total timeout).
    """

    sandbox: Sandbox
    whole: float
    latency: float = 0.001

    async def send(self, request: Request) -> SendResult:
        """Pass the request to the sandbox, and return what a connection would have returned."""
        if request.is_vetoed():
            return Vetoed()
        query = dict(request.query or {})
        if request.token:
            query["access_token"] = request.token.reveal()
        url = str(URL(request.path).with_query(query))
        try:
            platform_request = PlatformRequest.parse("POST", url, query, request.body.data)
            outgoing = respond(self.sandbox.world, self.sandbox.faults, platform_request)
            record_request(self.sandbox, platform_request, outgoing)
            return await self._answer(outgoing)
        except asyncio.CancelledError as error:
            return SendCancelled(error.args, sent=True)

    async def _answer(self, outgoing: OutgoingResponse) -> SendResult:
        delay = self.whole if outgoing.delivery_mode is DeliveryMode.HUNG else self.latency + outgoing.delay
        await asyncio.sleep(min(delay, self.whole))
        if delay >= self.whole:
            return SendFailure("no reply in time", sent=True, timeout=True)
        return FAILURES.get(outgoing.delivery_mode) or Response(outgoing.status, outgoing.body)

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""


@define
class Harness:
    """A sandbox, a session on it, and its transport."""

    sandbox: Sandbox
    session: wxtcb.Session
    wire: Wire

    def provisioner(self, **options: object) -> Provisioner:
        """Return a provisioner with a propagation delay that is short compared with its other times."""
        now = asyncio.get_running_loop().time
        return Provisioner(self.session, **{"settle": 2.0, "clock": lambda: EPOCH + now(), **options})

    async def provision(self, tenants: Iterable[Tenant], **options: object) -> Report:
        """Provision *tenants* and return the report."""
        async with self.provisioner(**options) as provisioner:
            return await provisioner.apply(tenants).wait()

    async def collect_events(self, tenants: Iterable[Tenant], **options: object) -> list[RunEvent]:
        """Provision *tenants* and return the events."""
        async with self.provisioner(**options) as provisioner:
            return [event async for event in provisioner.apply(tenants).events()]


@define
class SessionFactory:
    """Opens sessions on sandboxes without sockets."""

    monkeypatch: pytest.MonkeyPatch
    wires: list[Wire] = field(factory=list)

    def session(self, sandbox: Sandbox, **options: object) -> wxtcb.Session:
        """Return a session whose transport calls *sandbox*."""
        given = {
            "component_appid": sandbox.component_appid,
            "component_appsecret": sandbox.component_appsecret,
            "ticket": sandbox.ticket,
            "base_url": "http://127.0.0.1:1",
            "max_fetches_per_hour": None,
        }
        session = wxtcb.Session(**{**given, **options})
        wire = Wire(sandbox, session.timeout.total)
        self.wires.append(wire)
        self.monkeypatch.setattr(session_module, "open_transport", lambda *_, **__: wire)
        return session


@pytest.fixture
def session_factory(monkeypatch: pytest.MonkeyPatch) -> SessionFactory:
    """Return a factory of sessions without sockets."""
    return SessionFactory(monkeypatch)


@pytest_asyncio.fixture
async def sandbox() -> Sandbox:
    """Make a sandbox on the clock of the loop; its server is not started."""
    return Sandbox(world=World(clock=asyncio.get_running_loop().time))


@pytest_asyncio.fixture
async def harness(sandbox: Sandbox, session_factory: SessionFactory):
    """Open a session on the sandbox."""
    async with session_factory.session(sandbox) as session:
        yield Harness(sandbox, session, session_factory.wires[0])


def connect(sandbox: Sandbox, **options: object) -> wxtcb.Session:
    """Return a session that reaches *sandbox* over a socket."""
    given = {
        "component_appid": sandbox.component_appid,
        "component_appsecret": sandbox.component_appsecret,
        "ticket": sandbox.ticket,
        "base_url": sandbox.url,
        "retry": wxtcb.RetryPolicy(attempts=3, base=0.001),
        "max_fetches_per_hour": None,
    }
    return wxtcb.Session(**{**given, **options})
