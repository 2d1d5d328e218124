"""What the platform remembers of the requests that it answered with an error."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from attrs import Factory, define, field, frozen

from wxtcb.sandbox.errors import refuse
from wxtcb.sandbox.limits import DAY

__all__ = ["Failed", "Rids"]

_RID: Final = re.compile(rb"rid: ([0-9a-f-]+)")
_SHAPE: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]+")
_KEPT: Final = 7 * DAY
_MOST: Final = 10_000
_LONGEST: Final = 1024


@frozen
class Failed:
    """A request that was answered with an error, and when in Unix seconds; of long bodies the beginning."""

    invoke_time: float
    request_url: str = field(repr=False)
    request_body: str = field(repr=False)
    response_body: str = field(repr=False)

    def shown(self) -> dict[str, object]:
        """Return it as getRidInfo tells it."""
        return {
            "invoke_time": int(self.invoke_time),
            "cost_in_ms": 1,
            "request_url": self.request_url,
            "request_body": self.request_body,
            "response_body": self.response_body,
            "client_ip": "127.0.0.1",
        }


@define(eq=False)
class Rids:
    """The last 10,000 failed requests by rid."""

    _kept: OrderedDict[str, Failed] = Factory(OrderedDict[str, Failed])

    def note(self, now: float, query: str, body: bytes, answer: bytes) -> None:
        """Remember a request if its answer holds a rid."""
        found = _RID.search(answer)
        if found is None:
            return
        self._kept[found[1].decode()] = Failed(now, query, _beginning(body), _beginning(answer))
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)

    def find(self, rid: str, now: float) -> Failed:
        """Return a request, or refuse a rid that is malformed, unknown, or older than 7 days."""
        if _SHAPE.fullmatch(rid) is None:
            raise refuse(76002, "invalid rid")
        failed = self._kept.get(rid)
        if failed is None:
            raise refuse(76001, "rid not found")
        if now - failed.invoke_time > _KEPT:
            raise refuse(76004, "rid is expired")
        return failed


def _beginning(body: bytes) -> str:
    return body[:_LONGEST].decode(errors="replace")
