"""Shared fixtures: an event loop with virtual time, and a fake platform that answers from a script.

A module or test marked `virtual_time` runs on a loop whose clock jumps to the next timer when nothing is ready, so that
hours pass in milliseconds. Such a test uses no sockets; `wechat` replaces the transport.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import selectors
import socket
import time
from collections import deque

import attrs
import orjson
import pytest
from coverage import Coverage
from hypothesis import HealthCheck, settings

from wxtcb import session as session_module
from wxtcb._http.transport import Response, SendCancelled, Vetoed
from wxtcb.session import Session

# coverage sets this variable to measure the processes that a test starts.
COVERAGE = "COVERAGE_PROCESS_CONFIG"
TOKEN_PATH = "/cgi-bin/component/api_component_token"
CREDENTIALS = {
    "component_appid": "wx0123456789abcdef",
    "component_appsecret": "S3CRET-of-the-app",
    "ticket": "ticket@@@T1CKET",
}

# The suite uses the same examples in each run, so that a failure is due to a change of the code; the soak tests use
# others. No example has a deadline, because its duration depends on the machine.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **UNTIMED)
settings.register_profile("various", **UNTIMED)
settings.load_profile("various" if os.environ.get("WXTCB_SOAK") else "repeatable")


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that never sleeps: its clock jumps instead."""

    clock = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: every task waits, and no timer is set")
        if not ready:
            self.clock += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; an error reported to it, and not removed from `reported`, fails the test."""

    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.reported = []
        self.set_exception_handler(lambda _, context: self.reported.append(context))

    def time(self):
        return self._jumping.clock

    def close(self):
        if not self.is_closed():
            # An unretrieved exception of a task is reported when the task is collected.
            gc.collect(1)
        super().close()
        reported, self.reported = self.reported, []
        assert not reported, f"reported to the event loop: {reported}"


def pytest_configure(config):
    """Register the marker."""
    config.addinivalue_line("markers", "virtual_time: run on a loop whose clock jumps instead of waiting")
    config.addinivalue_line("markers", "unmeasured: run without coverage, which doubles the duration of long tests")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    """Return the loop with virtual time for marked tests, and the usual one for others."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Suspend coverage during a marked test, whose lines other tests run too."""
    coverage = Coverage.current() if item.get_closest_marker("unmeasured") else None
    if coverage is None:
        return (yield)
    coverage.stop()
    try:
        return (yield)
    finally:
        before = os.environ.get(COVERAGE)
        coverage.start()
        # `start` sets the variable, so that all processes of later tests would be measured.
        if before is None:
            os.environ.pop(COVERAGE, None)


@attrs.frozen
class After:
    """A step that takes `seconds`; if it is cancelled, the request counts as sent or not by `sent`."""

    seconds: float
    step: object = 0
    sent: bool = True


@attrs.define(eq=False, repr=False)
class Platform:
    """A transport that answers from scripts.

    A step is an errcode, a dict (the reply), a result of `Transport.send`, an `After`, or a function or coroutine
    function of the request that returns one of these. Each path has steps that are used once, and then a usual step,
    which is errcode 0 by default.
    """

    after = staticmethod(After)

    scripts: dict = attrs.field(factory=dict)
    usual: dict = attrs.field(factory=dict)
    requests: list = attrs.field(factory=list)
    times: list = attrs.field(factory=list)
    under_way: int = 0
    most_under_way: int = 0
    minted: int = 0
    life: int = 7200
    closed: bool = False

    def __attrs_post_init__(self):
        self.usual[TOKEN_PATH] = self.mint

    def mint(self, request):
        """Answer as the token call does, with a new token."""
        self.minted += 1
        return {"component_access_token": f"T0KEN-{self.minted}", "expires_in": self.life}

    def play(self, path, *steps):
        """Answer the next requests to *path* with *steps*, in order."""
        self.scripts.setdefault(path, deque()).extend(steps)

    def sent_to(self, path):
        """Return the requests to *path*."""
        return [request for request in self.requests if request.path == path]

    def sent_at(self, path):
        """Return the times of the requests to *path*."""
        return [at for at, request in zip(self.times, self.requests, strict=True) if request.path == path]

    @property
    def fetches(self):
        """The number of requested tokens."""
        return len(self.sent_to(TOKEN_PATH))

    async def send(self, request):
        if request.is_vetoed():
            return Vetoed()
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        script = self.scripts.get(request.path)
        step = script.popleft() if script else self.usual.get(request.path, 0)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._take(step, request)
        finally:
            self.under_way -= 1

    async def aclose(self):
        self.closed = True

    async def _take(self, step, request):
        while callable(step):
            step = step(request)
            if inspect.isawaitable(step):
                step = await step
        if isinstance(step, After):
            try:
                await asyncio.sleep(step.seconds)
            except asyncio.CancelledError as error:
                return SendCancelled(error.args, sent=step.sent)
            return await self._take(step.step, request)
        if isinstance(step, int):
            step = {"errcode": step, "errmsg": "as scripted rid: 5f-77"}
        return Response(200, orjson.dumps(step)) if isinstance(step, dict) else step


@pytest.fixture(scope="session", autouse=True)
def measures():
    """Do not measure the processes that tests start, which takes half as long again; return the variable for it."""
    with pytest.MonkeyPatch.context() as environ:
        value = os.environ.get(COVERAGE)
        environ.delenv(COVERAGE, raising=False)
        yield {} if value is None else {COVERAGE: value}


@pytest.fixture
def measured(measures, monkeypatch):
    """Measure the processes that the test starts, because they run lines that no test runs in its own process."""
    for name, value in measures.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def free_port():
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def wechat():
    """Return a platform that answers errcode 0 to every call and issues the tokens T0KEN-1, T0KEN-2 and so on."""
    return Platform()


@pytest.fixture
def new_session(wechat, monkeypatch):
    """Return a function that builds sessions whose transport is `wechat`."""
    monkeypatch.setattr(session_module, "open_transport", lambda *_, **__: wechat)

    def build(**options):
        return Session(**{**CREDENTIALS, **options})

    return build


@pytest.fixture(scope="session")
def virtual_run():
    """Return a function that runs a coroutine in virtual time, for tests with many examples."""

    def run(coro):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(coro)

    return run


@pytest.fixture
def pass_time(monkeypatch):
    """Return a function that advances the monotonic clock of this process by some seconds.

    A test with real sockets can then use long timeouts, which no busy machine reaches, and need not wait for them.
    """
    monotonic, offset = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + offset)

    def advance(seconds):
        nonlocal offset
        offset += seconds

    return advance


@pytest.fixture(scope="session")
def postgres():
    """Return the PostgreSQL server that all tests of this process share."""
    from .postgres_server import shared_postgres  # noqa: PLC0415  # most tests need no database

    return shared_postgres()


@pytest.fixture
def postgres_url(postgres):
    """Return the URL of an empty database."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def settle():
    """Return a coroutine function that runs every task that can run without time passing."""

    async def run(turns=20):
        for _ in range(turns):
            await asyncio.sleep(0)

    return run
