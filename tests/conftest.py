"""Virtual time, and a platform that answers from a script, for all tests of what moves.

A module or test marked `virtual_time` runs on a loop whose clock jumps to the next timer when nothing is ready: hours
pass in milliseconds. There are no sockets in it; `wechat` stands in for the transport.
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

COVERAGE = "COVERAGE_PROCESS_CONFIG"  # by it, a process that was started is told to be measured
TOKEN_PATH = "/cgi-bin/component/api_component_token"
CREDENTIALS = {
    "component_appid": "wx0123456789abcdef",
    "component_appsecret": "S3CRET-of-the-app",
    "ticket": "ticket@@@T1CKET",
}

# The suite tries the same examples each time, so that what it says is of the change; at full length it tries others.
# No example has a deadline: how long one takes is the machine's.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **UNTIMED)
settings.register_profile("various", **UNTIMED)
settings.load_profile("various" if os.environ.get("WXTCB_SOAK") else "repeatable")


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: where it would, the clock jumps."""

    clock = 1000.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("dead-lock: every task waits, and no timer is set")
        if not ready:
            self.clock += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; what was reported to its exception handler, and not popped, fails the test."""

    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.reported = []
        self.set_exception_handler(lambda _, context: self.reported.append(context))

    def time(self):
        return self._jumping.clock

    def close(self):
        if not self.is_closed():
            gc.collect(1)
        super().close()
        reported, self.reported = self.reported, []
        assert not reported, f"reported to the event loop: {reported}"


def pytest_configure(config):
    """Register the marker."""
    config.addinivalue_line("markers", "virtual_time: run on a loop whose clock jumps instead of waiting")
    config.addinivalue_line("markers", "unmeasured: let coverage look away, for it doubles the time of what runs much")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    """Give marked tests the loop in virtual time, all others the usual one."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Let coverage look away from a marked test: each line that it runs, another test runs too."""
    coverage = Coverage.current() if item.get_closest_marker("unmeasured") else None
    if coverage is None:
        return (yield)
    coverage.stop()
    try:
        return (yield)
    finally:
        told = os.environ.get(COVERAGE)
        coverage.start()
        if told is None:  # beginning again, coverage would measure all processes that later tests start
            os.environ.pop(COVERAGE, None)


@attrs.frozen
class After:
    """A step that takes `seconds`; cancelled meanwhile, it says `sent`."""

    seconds: float
    step: object = 0
    sent: bool = True


@attrs.define(eq=False, repr=False)
class Platform:
    """A transport that answers from scripts.

    A step is an errcode, a dict (the reply), an `Outcome`, an `After`, or a function of the request that returns (or,
    a coroutine function, awaits) one of these. Each path has steps to be used up, then a usual one, which is errcode 0.
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
        """Answer as the token call does."""
        self.minted += 1
        return {"component_access_token": f"T0KEN-{self.minted}", "expires_in": self.life}

    def play(self, path, *steps):
        """Let the next requests to *path* meet *steps*, one after the other."""
        self.scripts.setdefault(path, deque()).extend(steps)

    def sent_to(self, path):
        """Return the requests to *path*."""
        return [request for request in self.requests if request.path == path]

    def sent_at(self, path):
        """Return when they came."""
        return [at for at, request in zip(self.times, self.requests, strict=True) if request.path == path]

    @property
    def fetches(self):
        """The number of tokens asked for."""
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
    """Let coverage leave alone what tests start: it costs a child half as much again. Give what tells it to come."""
    with pytest.MonkeyPatch.context() as environ:
        given = os.environ.get(COVERAGE)
        environ.delenv(COVERAGE, raising=False)
        yield {} if given is None else {COVERAGE: given}


@pytest.fixture
def measured(measures, monkeypatch):
    """Let coverage measure what the test starts, which runs lines that no test runs in its own process."""
    for name, value in measures.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def free_port():
    """Give a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def wechat():
    """Give a platform that answers 0 to everything and mints tokens T0KEN-1, T0KEN-2 and so on."""
    return Platform()


@pytest.fixture
def new_session(wechat, monkeypatch):
    """Give a function that builds sessions whose transport is `wechat`."""
    monkeypatch.setattr(session_module, "open_transport", lambda *_, **__: wechat)

    def build(**options):
        return Session(**{**CREDENTIALS, **options})

    return build


@pytest.fixture(scope="session")
def virtual_run():
    """Give a function that runs a coroutine in virtual time, for tests with many examples."""

    def run(coro):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(coro)

    return run


@pytest.fixture
def pass_time(monkeypatch):
    """Give a function that lets so many seconds go by at once, for event loops and threads of this process.

    So a test with real sockets has timeouts that no machine is too busy for, and does not wait for them.
    """
    usual, passed = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: usual() + passed)

    def go_by(seconds):
        nonlocal passed
        passed += seconds

    return go_by


@pytest.fixture
def settle():
    """Give a coroutine function that lets everything run that can run without time passing."""

    async def run(turns=20):
        for _ in range(turns):
            await asyncio.sleep(0)

    return run
