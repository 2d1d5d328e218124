"""Peers of the ticket receiver: the addresses that send pushes, and those whose pushes are limited."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

import attrs

MAX_UNREADABLE_PUSHES: Final = 10
LIMIT_WINDOW: Final = 600.0
# About 100 KB.
MAX_PEERS: Final = 1000


def to_address(peer: str | None) -> str:
    """Return the IP address in *peer* in its usual form, or "" if it is none.

    A server that trusts a proxy takes the address from a header, which can contain any text.
    """
    try:
        # Without the zone of an IPv6 address, which can contain any text, too.
        address = ipaddress.ip_address((peer or "").partition("%")[0])
    except ValueError:
        return ""
    # A socket for both versions reports 192.0.2.1 as ::ffff:192.0.2.1.
    return str(getattr(address, "ipv4_mapped", None) or address)


@attrs.define(eq=False)
class PeerLimiter:
    """The public addresses from which too many pushes came that were signed, but could not be read.

    Somebody who knows the message token can send altered pushes until one happens to be readable. This limits how many
    they can try. Other addresses are not limited: a private one is that of a proxy, through which WeChat's pushes come
    as well.
    """

    clock: Callable[[], float]
    # Start of the window, and number of pushes in it; the oldest peer is the first.
    _windows: dict[str, tuple[float, int]] = attrs.field(init=False, factory=dict[str, "tuple[float, int]"])

    def record_unreadable(self, peer: str) -> None:
        """Count a push of *peer*, the result of `to_address`, that could not be read."""
        if (key := _limiter_key(peer)) is None:
            return
        start, count = self._current_window(key) or (self.clock(), 0)
        self._windows[key] = (start, count + 1)
        if len(self._windows) > MAX_PEERS:
            del self._windows[next(iter(self._windows))]

    def is_limited(self, peer: str) -> bool:
        """Return whether *peer* has reached the limit, until `LIMIT_WINDOW` seconds after its first such push."""
        window = None if (key := _limiter_key(peer)) is None else self._current_window(key)
        return window is not None and window[1] >= MAX_UNREADABLE_PUSHES

    def _current_window(self, key: str) -> tuple[float, int] | None:
        window = self._windows.get(key)
        if window is None or 0 <= self.clock() - window[0] < LIMIT_WINDOW:
            return window
        del self._windows[key]
        return None


def _limiter_key(peer: str) -> str | None:
    """Return what is counted for an address: itself, or the network of an IPv6 address; None if it is not public."""
    if not peer or not (address := ipaddress.ip_address(peer)).is_global:
        return None
    # One host usually has a whole network of 2 ** 64 addresses.
    return str(address if address.version == 4 else ipaddress.ip_network(f"{address}/64", strict=False))
