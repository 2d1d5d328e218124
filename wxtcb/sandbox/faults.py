"""Which fault strikes which request: decided here, played elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import inf
from random import Random
from typing import TypedDict, Unpack, cast

from attrs import Attribute, Factory, define, field
from attrs.validators import optional

from wxtcb.sandbox.fault import BadFault, Fault, Trouble, read_fault
from wxtcb.sandbox.schema import CALLS, Credential

__all__ = ["Faults", "positive"]


class When(TypedDict, total=False):
    """What every recipe takes: on which requests, how often, how likely; see `Fault`."""

    path: str | None
    times: int | None
    probability: float


def positive(_owner: object, attribute: Attribute[float], value: object) -> None:
    """Refuse what is no length of time."""
    if type(value) not in (int, float) or not 0 < cast("float", value) < inf:
        raise ValueError(f"{attribute.name} must be a positive, finite number of seconds, or None")


@define
class _Armed:
    fault: Fault
    left: int | None


def _fits(fault: Fault, path: str) -> bool:
    if fault.path is None:
        call = CALLS.get(path)
        return call is not None and call.credential is not Credential.NONE
    return fault.path == path


@define(eq=False)
class Faults:
    """The faults in force.

    A path's script comes first: one entry per request, None for a request that nothing befalls. Then the first fault
    in order of adding that fits, has plays left and wins its toss. Tosses come from `seed`.

    Every trouble has a verb that adds it and returns the fault, so that tests read as sentences.

    `kill_token_every`: seconds (finite, above 0) of the world's clock after which the next call that carries a token
    finds the living one ended; None: never. Counted from the last such kill, at first from the first call; no timer
    runs.
    """

    seed: int = 0
    kill_token_every: float | None = field(default=None, validator=optional(positive))
    _random: Random = field(init=False, repr=False)
    _armed: list[_Armed] = field(init=False, repr=False, default=Factory(list[_Armed]))
    _scripts: dict[str, deque[Fault | None]] = field(
        init=False, repr=False, default=Factory(dict[str, deque[Fault | None]])
    )
    _killed_at: float | None = field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._random = Random(f"faults {self.seed}")

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force, behind those already there."""
        self._armed.append(_Armed(fault, fault.times))
        return fault

    def script(self, path: str, acts: Iterable[Fault | None]) -> None:
        """Lay down what befalls the next requests to a path, one each; scripts laid later are appended.

        `path`, `times` and `probability` of a scripted fault are not looked at.
        """
        self._scripts.setdefault(path, deque()).extend(acts)

    def clear(self) -> None:
        """Lift every fault and script, and stop killing tokens."""
        self._armed.clear()
        self._scripts.clear()
        self.kill_token_every = self._killed_at = None

    def load(self, entries: object) -> int:
        """Add faults described in JSON: all of them, or none and `BadFault`; returns how many."""
        if not isinstance(entries, list):
            raise BadFault("$ must be an array")
        faults = [read_fault(entry, f"$[{index}]") for index, entry in enumerate(cast("list[object]", entries))]
        for fault in faults:
            self.add(fault)
        return len(faults)

    def choose(self, path: str) -> Fault | None:
        """Decide what befalls this request, and use it up."""
        script = self._scripts.get(path)
        if script:
            return script.popleft()
        return next((armed.fault for armed in self._armed if self._strikes(armed, path)), None)

    def kill_due(self, now: float) -> bool:
        """Say whether a living token has to end now, and count the time from here if so."""
        if self.kill_token_every is None:
            return False
        if self._killed_at is None:
            self._killed_at = now
        if now - self._killed_at < self.kill_token_every:
            return False
        self._killed_at = now
        return True

    def _strikes(self, armed: _Armed, path: str) -> bool:
        if armed.left == 0 or not _fits(armed.fault, path):
            return False
        if self._random.random() >= armed.fault.probability:
            return False
        armed.left = armed.left and armed.left - 1
        return True

    def busy(self, **when: Unpack[When]) -> Fault:
        """Answer -1 without having acted."""
        return self.add(Fault(Trouble.BUSY, **when))

    def busy_after(self, **when: Unpack[When]) -> Fault:
        """Act, and answer -1 all the same."""
        return self.add(Fault(Trouble.BUSY_AFTER, **when))

    def system_error_after(self, **when: Unpack[When]) -> Fault:
        """Act, and answer -1000 all the same."""
        return self.add(Fault(Trouble.SYSTEM_ERROR_AFTER, **when))

    def errcode(self, errcode: int, **when: Unpack[When]) -> Fault:
        """Answer this errcode without having acted."""
        return self.add(Fault(Trouble.ERRCODE, errcode=errcode, **when))

    def refuse_ticket(self, **when: Unpack[When]) -> Fault:
        """Answer 61006 on the token call, unless another path is named."""
        where: When = {"path": "/cgi-bin/component/api_component_token", **when}
        return self.errcode(61006, **where)

    def kill_token(self, **when: Unpack[When]) -> Fault:
        """End the living token, then let the platform answer: 42001 to a call that carries it."""
        return self.add(Fault(Trouble.KILL, **when))

    def drop(self, **when: Unpack[When]) -> Fault:
        """Close the connection without an answer and without having acted."""
        return self.add(Fault(Trouble.DROP, **when))

    def drop_after(self, **when: Unpack[When]) -> Fault:
        """Act, then close the connection without an answer."""
        return self.add(Fault(Trouble.DROP_AFTER, **when))

    def truncate(self, **when: Unpack[When]) -> Fault:
        """Act, announce the whole length, send half, close."""
        return self.add(Fault(Trouble.TRUNCATE, **when))

    def slow(self, seconds: float, **when: Unpack[When]) -> Fault:
        """Act, and answer so many real seconds later."""
        return self.add(Fault(Trouble.SLOW, seconds=seconds, **when))

    def hang(self, **when: Unpack[When]) -> Fault:
        """Never answer, never act; ends when the client leaves or the sandbox closes."""
        return self.add(Fault(Trouble.HANG, **when))

    def hang_after(self, **when: Unpack[When]) -> Fault:
        """Act, then never answer."""
        return self.add(Fault(Trouble.HANG_AFTER, **when))

    def http(self, status: int, **when: Unpack[When]) -> Fault:
        """Answer an HTML page with this HTTP status, without having acted."""
        return self.add(Fault(Trouble.HTTP, status=status, **when))

    def http_after(self, status: int, **when: Unpack[When]) -> Fault:
        """Act, then answer an HTML page with this HTTP status."""
        return self.add(Fault(Trouble.HTTP_AFTER, status=status, **when))

    def redirect(self, status: int = 307, **when: Unpack[When]) -> Fault:
        """Point the client at the very same URL, where a 307 that is followed would act."""
        return self.add(Fault(Trouble.REDIRECT, status=status, **when))

    def plain(self, **when: Unpack[When]) -> Fault:
        """Send the right answer as text/plain."""
        return self.add(Fault(Trouble.PLAIN, **when))

    def gzip(self, **when: Unpack[When]) -> Fault:
        """Send the right answer compressed, whatever the client accepts."""
        return self.add(Fault(Trouble.GZIP, **when))

    def empty(self, **when: Unpack[When]) -> Fault:
        """Act, and answer 200 with no body."""
        return self.add(Fault(Trouble.EMPTY, **when))

    def not_object(self, text: str = "[]", **when: Unpack[When]) -> Fault:
        """Act, and answer 200 with this text, which need not be JSON."""
        return self.add(Fault(Trouble.NOT_OBJECT, text=text, **when))

    def missing(self, name: str, **when: Unpack[When]) -> Fault:
        """Leave a field out of the reply; `info_list.status` takes it from every row."""
        return self.add(Fault(Trouble.MISSING, name=name, **when))

    def huge(self, megabytes: int, **when: Unpack[When]) -> Fault:
        """Stretch the right answer by so many megabytes of padding, sent in chunks without a length."""
        return self.add(Fault(Trouble.HUGE, megabytes=megabytes, **when))

    def hiccup(self, *envs: str, newest: int | None = None, **when: Unpack[When]) -> Fault:
        """Let describeenvs omit these environments, or the newest so many, or all."""
        return self.add(Fault(Trouble.HICCUP, envs=envs, newest=newest, **when))

    def echo_page(self, status: int = 502, **when: Unpack[When]) -> Fault:
        """Act, and answer an HTML page that repeats the request: its URL with the token, its body."""
        return self.add(Fault(Trouble.ECHO_PAGE, status=status, **when))

    def echo_message(self, errcode: int = 40097, **when: Unpack[When]) -> Fault:
        """Answer an errcode whose errmsg repeats the request, without having acted."""
        return self.add(Fault(Trouble.ECHO_MESSAGE, errcode=errcode, **when))
