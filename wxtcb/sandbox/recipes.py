"""Every fault by a verb of its own, for tests that read as sentences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypedDict, Unpack

from wxtcb.sandbox.fault import Fault, Trouble

__all__ = ["Recipes", "When"]


class When(TypedDict, total=False):
    """What every recipe takes: on which requests, how often, how likely; see `Fault`."""

    path: str | None
    times: int | None
    probability: float


class Recipes(ABC):
    """The verbs; each adds one fault and returns it."""

    __slots__ = ()

    @abstractmethod
    def add(self, fault: Fault) -> Fault:
        """Add a fault behind those already there."""

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
