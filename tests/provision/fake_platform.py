"""The connections of a simulated process to the platform and to the journal, with the faults that happen on them."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum

import attrs
import orjson
from yarl import URL

from wxtcb._http.transport import Response, SendCancelled, SendFailure, Vetoed
from wxtcb.errors import WxtcbError
from wxtcb.provision import JournalError
from wxtcb.provision.journal import Committed
from wxtcb.sandbox import Fault, FaultKind
from wxtcb.sandbox.request import PlatformRequest, SeenRequest
from wxtcb.sandbox.responder import DeliveryMode, respond
from wxtcb.tokens.providers import ComponentToken

from .constants import CREATE, LIST
from .virtual_time import DelayedResult

LATENCY = 0.01
# Seconds for which a call waits for a storage that is away.
PATIENCE = 30.0
AMBIGUOUS_ERRCODES = (-1, -1000)
CONNECTION_LOST = SendFailure("the connection was lost", sent=True)
UNANSWERED = (DeliveryMode.DROPPED, DeliveryMode.TRUNCATED)


class NetworkFault(Enum):
    """Faults of a request that the sandbox does not have."""

    LATE = "takes effect long after its sender has given up"
    LACKS_NEWEST = "the list lacks the newest environment"
    LACKS_OLDEST = "the list lacks the oldest one"
    LACKS_ALL = "the list is empty"


@attrs.define(eq=False)
class Platform:
    """The sandbox as reached over a network; `faults` holds the faults of the next requests to a path."""

    sandbox: object
    timeline: object
    checker: object
    faults: dict = attrs.field(factory=lambda: {CREATE: deque(), LIST: deque()})
    token_delay: float = 0.0
    incomplete_list: NetworkFault | None = None
    incomplete_until: float = 0.0

    def clear_faults(self):
        """Stop all faults."""
        for faults in self.faults.values():
            faults.clear()
        self.token_delay = self.sandbox.world.visible_after = self.incomplete_until = 0.0

    def issue_token(self):
        """Return the token that all processes share; issue one if none is valid."""
        world = self.sandbox.world
        if not world.credentials.has_valid_token(world.clock()):
            world.issue_token()
        seconds, self.token_delay = self.token_delay, 0.0
        return DelayedResult(world.credentials.token, seconds)

    def next_fault(self, path):
        faults = self.faults.get(path)
        return faults.popleft() if faults else None

    def handle(self, path, query, body, fault, process):
        """Handle a request; return what is sent back, and its JSON document if the process can read it."""
        if path == LIST and fault is None:
            fault = self._incomplete_list_fault(process)
        if fault is not None and not isinstance(fault, NetworkFault):
            self.sandbox.faults.script(path, [fault])
        request = PlatformRequest.parse("POST", str(URL(path).with_query(query)), query, body)
        outgoing = respond(self.sandbox.world, self.sandbox.faults, request)
        record_request(self.sandbox, request, outgoing)
        return outgoing, _read_document(outgoing)

    def _incomplete_list_fault(self, process):
        """Return a fault that hides environments.

        Two incomplete lists in a row are given to one process only if they lack something that it knows. Otherwise
        they would be two complete listings to it, and no rule could protect it.
        """
        listed = [*self.sandbox.world.environments]
        shown = listed
        if self.timeline.now < self.incomplete_until:
            shown = {
                NetworkFault.LACKS_NEWEST: listed[:-1],
                NetworkFault.LACKS_OLDEST: listed[1:],
                NetworkFault.LACKS_ALL: [],
            }[self.incomplete_list]
        hidden = tuple(env for env in listed if env not in shown)
        process.misled = bool(hidden) and (
            not process.misled or bool(process.missing_from(frozenset(shown), self.timeline.now))
        )
        return Fault(FaultKind.INCOMPLETE_LIST, envs=hidden) if process.misled else None


def record_request(sandbox, request, outgoing):
    """Record a request that did not pass through the sandbox's server."""
    sandbox.counts[request.path] += 1
    at, errcode, outcome = sandbox.world.clock(), outgoing.errcode, outgoing.outcome
    seen = SeenRequest(request.path, request.query, request.parsed_body, at, errcode, outcome, outgoing.acted)
    sandbox.seen.append(seen)


def _read_document(outgoing):
    complete = outgoing.delivery_mode is DeliveryMode.COMPLETE and outgoing.status == 200
    return orjson.loads(outgoing.body) if complete and outgoing.errcode is not None else None


@attrs.define(eq=False)
class FakeTransport:
    """A transport of one process into the sandbox."""

    process: object
    platform: Platform
    timeout: float
    _listing_began_at: float | None = None

    async def fetch_token(self):
        """Fetch the valid token, as from an external token service."""
        # A listing that has to wait for a token counts from here: its snapshot began before the token came.
        self._begin_listing()
        token = await self.process.call_external(LATENCY, self.platform.issue_token, LATENCY)
        return ComponentToken(token, 7200)

    def _begin_listing(self):
        if self._listing_began_at is None:
            self._listing_began_at = self.platform.timeline.now

    async def send(self, request):
        if request.is_vetoed():
            return Vetoed()
        query = {**(request.query or {}), "access_token": request.token.reveal()}
        fault = self.platform.next_fault(request.path)
        self.platform.checker.on_process_acts(self.process)
        self.process.count("sent", request.path)
        prepare = self._prepare_create if request.path == CREATE else self._prepare_list
        delay, handle = prepare(request.body.data, query, fault)
        try:
            async with asyncio.timeout(self.timeout):
                result = await self.process.call_external(delay, handle, LATENCY)
        except TimeoutError:
            return SendFailure("no reply in time", sent=True, timeout=True)
        except asyncio.CancelledError as error:
            return SendCancelled(error.args, sent=True)
        if self.platform.checker.confirm_listing_read(self.process):
            self._listing_began_at = None
        return result

    async def aclose(self):
        """Do nothing: no connection is open."""

    def _prepare_create(self, body, query, fault):
        platform, checker = self.platform, self.platform.checker
        create = checker.on_create_sent(self.process, orjson.loads(body)["alias"])
        late = create.over_at - platform.timeline.now - LATENCY
        delay = max(LATENCY, late) if fault is NetworkFault.LATE else LATENCY

        def handle():
            outgoing, document = platform.handle(CREATE, query, body, fault, self.process)
            self.process.count("acted", CREATE)
            if outgoing.acted:
                checker.on_create_acted(create, [*platform.sandbox.world.environments][-1])
            return self._deliver(outgoing, document, lambda: self._on_create_answered(create, document))

        return delay, handle

    def _on_create_answered(self, create, document):
        self.process.count("answered", CREATE)
        errcode = document["errcode"]
        rejected = errcode != 0 and errcode not in AMBIGUOUS_ERRCODES
        self.platform.checker.on_create_answered(create, rejected=rejected)

    def _prepare_list(self, body, query, fault):
        platform, sent_at = self.platform, self.platform.timeline.now
        self._begin_listing()

        def handle():
            outgoing, document = platform.handle(LIST, query, body, fault, self.process)
            return self._deliver(outgoing, document, lambda: self._on_list_answered(sent_at, document))

        return LATENCY, handle

    def _on_list_answered(self, sent_at, document):
        if document["errcode"] == 0:
            self.process.count("answered", LIST)
            self.platform.checker.on_listed(self.process, self._listing_began_at, sent_at, document["info_list"])

    def _deliver(self, outgoing, document, on_arrival):
        """Return what the process receives, and when; *on_arrival* is called if it can read the answer."""
        if outgoing.delivery_mode is DeliveryMode.HUNG:
            return DelayedResult(CONNECTION_LOST, 10 * self.timeout)
        if outgoing.delivery_mode in UNANSWERED:
            return CONNECTION_LOST
        response = Response(outgoing.status, outgoing.body)
        return DelayedResult(response, outgoing.delay, on_arrival if document else lambda: None)


class StorageFault(Enum):
    """A write that fails, although it was stored, or without that; a read fails in either case."""

    STORED = True
    NOT_STORED = False


@attrs.define(eq=False)
class PendingWrite:
    """A write in flight; it is executed once, or never."""

    process: object
    action: object

    def execute(self, fault=None):
        # A kill executes or drops what is in flight; the event that is still scheduled must not repeat it.
        if self not in self.process.pending_writes:
            return None
        self.process.pending_writes.remove(self)
        return None if fault is StorageFault.NOT_STORED else self.action()


@attrs.define(eq=False)
class JournalBackend:
    """The journal behind all connections.

    *call* executes a method of the journal at once. `faults` holds the faults of the next commits of any process, and
    `call_faults` those of its next other calls: seconds until the response, or a `StorageFault`. `away_until` is the
    time until which it cannot be reached; then calls wait for at most `PATIENCE` seconds.
    """

    timeline: object
    checker: object
    call: object
    journal: object = None
    faults: deque = attrs.field(factory=deque)
    call_faults: deque = attrs.field(factory=deque)
    away_until: float = 0.0
    notifies: bool = True

    def clear_faults(self):
        """Stop all faults."""
        self.faults.clear()
        self.call_faults.clear()
        self.away_until, self.notifies = 0.0, True


@attrs.define(eq=False)
class JournalConnection:
    """The journal as one process reaches it (`wxtcb.provision.journal.Journal`)."""

    process: object
    backend: JournalBackend

    @property
    def durable(self):
        return True

    rolled_back_at = None

    async def bind_identity(self, identity=None):
        return await self.read("bind_identity", identity)

    async def load(self, tenants=None, *, aliases=(), envs=()):
        names = None if tenants is None else tuple(tenants)
        records, read_at = await self._read_at("load", names, aliases=tuple(aliases), envs=tuple(envs))
        self.backend.checker.on_records_read(self.process, records if names is None else names, read_at)
        return records

    async def bindings(self, now):
        requested_at = self.backend.timeline.now
        bindings, read_at = await self._read_at("bindings", now)
        bound, known = self.backend.checker.bound, self.process.known_envs
        since = {env: bound[env][1] if env in bound else read_at for env in bindings}
        # What is recent when it is read first must be listed after the propagation delay from then on.
        required = {env: at if at <= read_at - self.process.settle else requested_at for env, at in since.items()}
        own = {env: at for env, at in known.items() if at > requested_at}
        self.process.known_envs = {env: known.get(env, at) for env, at in required.items()} | own
        # The storage measures the age by its own clock: those of the processes may differ.
        return {env: attrs.evolve(each, since=now - (read_at - since[env])) for env, each in bindings.items()}

    async def history(self, tenants):
        return await self.read("history", tuple(tenants))

    async def commit(self, record, entry, previous_owner=None, *, epoch=None):
        backend, requested_at = self.backend, self.backend.timeline.now
        fault = backend.faults.popleft() if backend.faults else None
        backend.checker.on_process_acts(self.process)
        self.process.count("requested", "commit")

        def action():
            answer = backend.call("commit", record, entry, previous_owner, epoch=epoch)
            if answer == Committed():
                backend.checker.on_commit(self.process, epoch)
                if previous_owner is not None:
                    backend.checker.on_record_stored(self.process, previous_owner[0], requested_at)
                backend.checker.on_record_stored(self.process, record, requested_at)
                self.process.count("stored", "commit")
            return answer

        delay = fault if isinstance(fault, float) else LATENCY
        answer = await self._write(action, fault, delay, LATENCY)
        if answer == Committed() and record.env is not None:
            self.process.known_envs[record.env] = backend.timeline.now
        return answer

    async def write(self, action):
        """Execute a write that is no commit."""
        fault = self._next_call_fault()
        return await self._write(action, fault, LATENCY, fault if isinstance(fault, float) else LATENCY)

    async def read(self, name, *args, **kwargs):
        return (await self._read_at(name, *args, **kwargs))[0]

    async def _read_at(self, name, *args, **kwargs):
        """Return the result of a method of the journal, and the moment when it was executed."""
        backend, fault = self.backend, self._next_call_fault()
        await self._reach()
        delay = fault if isinstance(fault, float) else LATENCY

        def action():
            return backend.call(name, *args, **kwargs), backend.timeline.now

        result = await self.process.call_external(LATENCY, action, delay)
        if isinstance(fault, StorageFault):
            raise JournalError("the connection was lost")
        return result

    async def _write(self, action, fault, delay, return_delay):
        await self._reach()
        pending = PendingWrite(self.process, action)
        self.process.pending_writes.append(pending)

        def execute():
            try:
                return pending.execute(fault)
            except WxtcbError as error:
                return error

        answer = await self.process.call_external(delay, execute, return_delay)
        if isinstance(fault, StorageFault):
            raise JournalError("the disk is full")
        if isinstance(answer, WxtcbError):
            raise answer
        return answer

    def _next_call_fault(self):
        return self.backend.call_faults.popleft() if self.backend.call_faults else None

    async def _reach(self):
        remaining = self.backend.away_until - self.backend.timeline.now
        if remaining > 0:
            await asyncio.sleep(min(remaining, PATIENCE))
        if remaining > PATIENCE:
            raise JournalError("the database cannot be reached")
