"""The two doors of a process, to the platform and to the journal; what passes is judged, bent and lost here."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum

import attrs
import orjson
from yarl import URL

from wxtcb._http.transport import Response, SendCancelled, SendFailure, Vetoed
from wxtcb.provision import JournalError
from wxtcb.sandbox import Fault, FaultKind
from wxtcb.sandbox.request import PlatformRequest
from wxtcb.sandbox.responder import DeliveryMode, respond
from wxtcb.tokens.providers import ComponentToken

from .constants import CREATE, LIST
from .virtual_time import Late

TRIP = 0.01
UNCLEAR = (-1, -1000)
LOST = SendFailure("the connection was lost", sent=True)
NO_ANSWER = (DeliveryMode.DROPPED, DeliveryMode.TRUNCATED)


class Odd(Enum):
    """What befalls a request that no fault of the sandbox does."""

    LATE = "acts long after its sender has given up"
    LACKS_NEWEST = "the list lacks the newest environment"
    LACKS_OLDEST = "the list lacks the oldest one"
    LACKS_ALL = "the list is empty"


@attrs.define(eq=False)
class Platform:
    """The sandbox as it is reached over a network; `acts` say what befalls the next requests to a path."""

    box: object
    line: object
    witness: object
    acts: dict = attrs.field(factory=lambda: {CREATE: deque(), LIST: deque()})
    token_seconds: float = 0.0
    lacking: Odd | None = None
    lacks_until: float = 0.0

    def calm(self):
        """Let nothing befall any request from now on."""
        for acts in self.acts.values():
            acts.clear()
        self.token_seconds = self.box.world.visible_after = self.lacks_until = 0.0

    def mint(self):
        """Give the token that all share."""
        world = self.box.world
        if not world.credentials.lives(world.clock()):
            world.mint()
        seconds, self.token_seconds = self.token_seconds, 0.0
        return Late(world.tokens._token, seconds)

    def next_act(self, path):
        acts = self.acts.get(path)
        return acts.popleft() if acts else None

    def answer(self, path, query, body, act, host):
        """Let the platform act, and return how it answers and what that says, if anything."""
        if path == LIST and act is None:
            act = self._hiccup(host)
        if fault := None if isinstance(act, Odd) else act:
            self.box.faults.script(path, [fault])
        asked = PlatformRequest.parse("POST", str(URL(path).with_query(query)), query, body)
        out = respond(self.box.world, self.box.faults, asked)
        self.box._note(asked, out)
        return out, _read(out)

    def _hiccup(self, host):
        """Let a list lack some: twice in a row for one process only where it lacks what that one knows too."""
        kept = [*self.box.world.environments]
        if self.line.now < self.lacks_until:
            kept = {Odd.LACKS_NEWEST: kept[:-1], Odd.LACKS_OLDEST: kept[1:], Odd.LACKS_ALL: []}[self.lacking]
        gone = tuple(env for env in self.box.world.environments if env not in kept)
        host.misled = bool(gone) and (not host.misled or bool(host.lacks(frozenset(kept), self.line.now)))
        return Fault(FaultKind.INCOMPLETE_LIST, envs=gone) if host.misled else None


def _read(out):
    if out.manner is not DeliveryMode.COMPLETE or out.status != 200 or out.errcode is None:
        return None
    return orjson.loads(out.body)


@attrs.define(eq=False)
class Wire:
    """A transport of one process into the sandbox."""

    host: object
    platform: Platform
    whole: float
    _began: float | None = None

    async def fetch_token(self):
        """Fetch the living token, as from a central service; a look may have begun that waits for it."""
        self._begin()
        return ComponentToken(await self.host.ask(TRIP, self.platform.mint, TRIP), 7200)

    def _begin(self):
        self._began = self.platform.line.now if self._began is None else self._began

    async def send(self, request):
        if request.is_vetoed():
            return Vetoed()
        query = {**(request.query or {}), "access_token": request.token.reveal()}
        act = self.platform.next_act(request.path)
        self.host.mark("sent", request.path)
        ask = self._create if request.path == CREATE else self._list
        there, happen = ask(request.body.data, query, act)
        try:
            async with asyncio.timeout(self.whole):
                result = await self.host.ask(there, happen, TRIP)
        except TimeoutError:
            return SendFailure("no reply in time", sent=True, timeout=True)
        except asyncio.CancelledError as error:
            return SendCancelled(error.args, sent=True)
        if self.platform.witness.take_note(self.host):
            self._began = None
        return result

    async def aclose(self):
        """Nothing is open."""

    def _create(self, body, query, act):
        platform, witness = self.platform, self.platform.witness
        create = witness.send_create(self.host, orjson.loads(body)["alias"])
        there = max(TRIP, create.over - platform.line.now - TRIP) if act is Odd.LATE else TRIP

        def happen():
            out, said = platform.answer(CREATE, query, body, act, self.host)
            self.host.mark("acted", CREATE)
            if out.acted:
                witness.act(create, [*platform.box.world.environments][-1])
            return self._back(out, said, lambda: self._told_create(create, said))

        return there, happen

    def _told_create(self, create, said):
        self.host.mark("told", CREATE)
        errcode = said["errcode"]
        self.platform.witness.tell_create(create, refused=errcode != 0 and errcode not in UNCLEAR, clear=True)

    def _list(self, body, query, act):
        platform, sent_at = self.platform, self.platform.line.now
        self._begin()

        def happen():
            out, said = platform.answer(LIST, query, body, act, self.host)
            return self._back(out, said, lambda: self._told_list(sent_at, said))

        return TRIP, happen

    def _told_list(self, sent_at, said):
        if said["errcode"] == 0:
            self.host.mark("told", LIST)
            self.platform.witness.tell_list(self.host, self._began, sent_at, said["info_list"])

    def _back(self, out, said, tell):
        """Return what the process gets to see, and when; *tell* is called as it does."""
        if out.manner is DeliveryMode.HUNG:
            return Late(LOST, 10 * self.whole)
        if out.manner in NO_ANSWER:
            return LOST
        return Late(Response(out.status, out.body), out.delay, tell if said else lambda: None)


@attrs.define(eq=False)
class JournalDoor:
    """The journal as one process reaches it; `acts` say what befalls the next commits of anybody."""

    host: object
    desk: Desk

    @property
    def durable(self):
        return True

    async def bind_identity(self, identity):
        return await self._ask("bind_identity", identity)

    async def load(self, tenants=None):
        return await self._ask("load", None if tenants is None else tuple(tenants))

    async def bindings(self):
        bound = await self._ask("bindings")
        self.host.knew = {env: self.desk.witness.bound[env][1] for env in bound if env in self.desk.witness.bound}
        return bound

    async def history(self, tenants):
        return await self._ask("history", tuple(tenants))

    async def commit(self, record, moment, previous_owner=None):
        asked_at, act = self.desk.line.now, self.desk.next_act()
        self.host.mark("asked", "commit")
        pending = Pending(self, record, moment, asked_at)
        self.host.pending.append(pending)
        seconds = act if isinstance(act, float) else TRIP
        kept = await self.host.ask(seconds, lambda: pending.happen(act), TRIP)
        if kept and record.env is not None:
            self.host.knew[record.env] = self.desk.line.now
        if isinstance(act, Lost):
            raise JournalError("the disk is full")
        return kept

    async def _ask(self, name, *args):
        return await self.host.ask(TRIP, lambda: self.desk.call(name, *args), TRIP)


class Lost(Enum):
    """A commit that fails: it was kept all the same, or not."""

    KEPT = True
    NOT_KEPT = False


@attrs.define(eq=False)
class Pending:
    """A commit in flight; it happens once, or never."""

    door: JournalDoor
    record: object
    moment: object
    asked_at: float

    def happen(self, act=None):
        host, desk = self.door.host, self.door.desk
        if self not in host.pending:
            return False
        host.pending.remove(self)
        if act is Lost.NOT_KEPT:
            return False
        kept = desk.call("commit", self.record, self.moment)
        if kept:
            desk.witness.keep(host, self.record, self.asked_at)
            host.mark("kept", "commit")
        return kept


@attrs.define(eq=False)
class Desk:
    """Where all processes reach the journal; *call* does what is asked at once."""

    line: object
    witness: object
    call: object
    acts: deque = attrs.field(factory=deque)

    def next_act(self):
        return self.acts.popleft() if self.acts else None
