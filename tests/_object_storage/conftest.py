"""Fixtures: a session on the sandbox, and one whose links lead to a raw server."""

from __future__ import annotations

import asyncio
import contextlib
import traceback

import attrs
import pytest

import wxtcb
from wxtcb.api import hosting, storage
from wxtcb.sandbox import Sandbox, World

# Address of a simulated platform on this machine: only then may links lead to servers on this machine.
ON_LOOPBACK = "http://127.0.0.1:1"
QUICK = wxtcb.RetryPolicy(base=0.001, cap=0.001)


@attrs.define
class ManualClock:
    """ManualClock that only tests advance."""

    now: float = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def sandbox(clock):
    """Serve a platform with that clock."""
    async with Sandbox(world=World(clock=clock)) as sandbox:
        yield sandbox


@pytest.fixture
def connect(sandbox):
    """Return a function that builds a session on the sandbox."""

    def build(**options):
        account = {name: getattr(sandbox, name) for name in ("component_appid", "component_appsecret", "ticket")}
        return wxtcb.Session(**account, base_url=sandbox.url, **{"retry": QUICK, **options})

    return build


@pytest.fixture
async def session(connect):
    async with connect() as session:
        yield session


@pytest.fixture
def closes_at_link(session, sandbox, monkeypatch):
    """Close the connections to object storage when a link is issued."""
    issue = type(sandbox.world.storage.objects).issue_link

    def closing(*args):
        session.storage_client._closed = True
        return issue(*args)

    monkeypatch.setattr(type(sandbox.world.storage.objects), "issue_link", closing)


@pytest.fixture
def env(sandbox):
    """Return an environment that is NORMAL."""
    return sandbox.world.add("a")


@pytest.fixture
async def site(session, env):
    """Return an environment with a static website."""
    await hosting.create_static_store(session, env)
    await hosting.wait_until_online(session, env)
    return env


@attrs.define(eq=False)
class RawServer:
    """Server that records its requests and responds with what `answer` returns for their number (from 1).

    If `stalls` returns True for the number, the connection stays open until the client closes it. If `waits` does, it
    stays open until the client has called `progress`.
    """

    answer: object
    requests: list = attrs.field(factory=list)
    url: str = ""
    stalls: object = lambda _: False
    waits: object = lambda _: False
    progressed: asyncio.Event = attrs.field(factory=asyncio.Event)

    def progress(self, *_):
        self.progressed.set()

    async def serve(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            self.requests.append((head.decode(), await reader.readexactly(size)))
            for part in self.answer(len(self.requests)):
                writer.write(part)
                await writer.drain()
            if self.stalls(len(self.requests)):
                await reader.read()
            if self.waits(len(self.requests)):
                await self.progressed.wait()
                self.progressed.clear()
        writer.close()


@pytest.fixture
async def serve():
    """Return a function that starts a raw server with responses; the last one is repeated."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*answers):
            def answer(number):
                response = answers[min(number, len(answers)) - 1]
                return [response] if isinstance(response, bytes) else response

            raw = RawServer(answer)
            listener = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
            stack.callback(listener.close)
            raw.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            return raw

        yield start


@pytest.fixture
def exposed_text():
    """Return a function that collects everything an error exposes: locals of its frames, chain and attributes."""

    def collect(error):
        below = error.with_traceback(error.__traceback__.tb_next)  # the frame of the test itself holds the secrets
        story = traceback.TracebackException.from_exception(below, capture_locals=True, compact=False)
        return "\n".join([*story.format(), repr(error), repr(vars(error))])

    return collect


@pytest.fixture(params=["file", "page"])
def store(request, session, site):
    """Return the upload function of a file or of a website page."""
    upload = storage.upload_file if request.param == "file" else hosting.upload_file
    return lambda source, **options: upload(session, site, "a/中 b+c%.html", source, **options)


@pytest.fixture
def stored(store, sandbox, site, request):
    """Return the stored objects of `store`."""
    part = sandbox.world.storage if request.node.callspec.params["store"] == "file" else sandbox.world.hosting
    return lambda: part.read(site, "a/中 b+c%.html")


@pytest.fixture
def path(request):
    """Return the path by which faults of that upload are selected."""
    return "/_cos/post" if request.node.callspec.params["store"] == "file" else "/_cos/put"
