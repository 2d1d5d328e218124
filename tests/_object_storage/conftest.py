"""A session before the simulated platform, and one whose links lead to a raw server."""

from __future__ import annotations

import asyncio
import contextlib
import traceback

import attrs
import pytest

import wxtcb
from wxtcb.api import hosting, storage
from wxtcb.sandbox import Sandbox, World

QUICK = wxtcb.RetryPolicy(base=0.001, cap=0.001)


@attrs.define
class Clock:
    """Seconds that pass only when a test says so."""

    now: float = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def box(clock):
    """Serve a platform under that clock."""
    async with Sandbox(world=World(clock=clock)) as box:
        yield box


@pytest.fixture
def connect(box):
    """Give a function that builds a session before the platform."""

    def build(**options):
        account = {name: getattr(box, name) for name in ("component_appid", "component_appsecret", "ticket")}
        return wxtcb.Session(**account, base_url=box.url, **{"retry": QUICK, **options})

    return build


@pytest.fixture
async def session(connect):
    async with connect() as session:
        yield session


@pytest.fixture
def closes_at_link(session, box, monkeypatch):
    """Let the connections to object storage be closed when a link is given."""
    issue = type(box.world.storage.objects).issue_link

    def closing(*args):
        session.storage_client._closed = True
        return issue(*args)

    monkeypatch.setattr(type(box.world.storage.objects), "issue_link", closing)


@pytest.fixture
def env(box):
    """Give an environment that is NORMAL."""
    return box.world.add("a")


@pytest.fixture
async def site(session, env):
    """Give an environment whose website is online."""
    await hosting.create_static_store(session, env)
    await hosting.wait_until_online(session, env)
    return env


@attrs.define(eq=False)
class Raw:
    """A server that notes the requests it gets, and answers what `answer` makes of their number (from 1).

    After an answer that `stalls` by its number, the connection stays open until the client closes it; after one that
    `waits`, until the client has told `progress` of it.
    """

    answer: object
    requests: list = attrs.field(factory=list)
    url: str = ""
    stalls: object = lambda _: False
    waits: object = lambda _: False
    heard: asyncio.Event = attrs.field(factory=asyncio.Event)

    def progress(self, *_):
        self.heard.set()

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
                await self.heard.wait()
                self.heard.clear()
        writer.close()


@pytest.fixture
async def serve():
    """Give a function that starts a raw server with answers, the last of which is for ever."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*answers):
            def answer(number):
                said = answers[min(number, len(answers)) - 1]
                return [said] if isinstance(said, bytes) else said

            raw = Raw(answer)
            listener = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
            stack.callback(listener.close)
            raw.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            return raw

        yield start


@pytest.fixture
def whole_story():
    """Give a function that tells all a reader could get out of an error: its frames' locals, chain and attributes."""

    def tell(error):
        below = error.with_traceback(error.__traceback__.tb_next)  # the test itself knows the secrets
        story = traceback.TracebackException.from_exception(below, capture_locals=True, compact=False)
        return "\n".join([*story.format(), repr(error), repr(vars(error))])

    return tell


@pytest.fixture(params=["file", "page"])
def store(request, session, site):
    """Give the upload of a file, or that of a page of a website."""
    upload = storage.upload_file if request.param == "file" else hosting.upload_file
    return lambda source, **options: upload(session, site, "a/中 b+c%.html", source, **options)


@pytest.fixture
def stored(store, box, site, request):
    """Give what is stored where `store` stores."""
    part = box.world.storage if request.node.callspec.params["store"] == "file" else box.world.hosting
    return lambda: part.read(site, "a/中 b+c%.html")


@pytest.fixture
def path(request):
    """Give what faults of that upload are keyed by."""
    return "/_cos/post" if request.node.callspec.params["store"] == "file" else "/_cos/put"
