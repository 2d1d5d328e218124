"""The side door for other processes and other languages: HTTP under `/_sandbox`, outside the simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol, cast

import orjson
from attrs import frozen

from wxtcb.sandbox.conduct import conduct_functions, conduct_operations
from wxtcb.sandbox.fault import BadFault
from wxtcb.sandbox.faults import Faults
from wxtcb.sandbox.push.schedule import NoReceiver, Pushes, Receipt
from wxtcb.sandbox.request import SeenRequest
from wxtcb.sandbox.world import World

__all__ = ["ORDERS", "PREFIX", "Controlled", "Page", "control"]

PREFIX: Final = "/_sandbox"
_ORDER: Final = {"url", "every", "repeated", "late"}
_OFFER: Final = {"env", "appid"}


class Controlled(Protocol):
    """What the side door opens on."""

    @property
    def world(self) -> World:
        """The simulated platform."""
        ...

    @property
    def faults(self) -> Faults:
        """The faults in force."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Requests so far, by path."""
        ...

    @property
    def pushes(self) -> Pushes:
        """What was pushed."""
        ...

    def push_to(self, url: str, *, every: float | None = ..., repeated: float = ..., late: float = ...) -> None:
        """Push to this address from now on."""
        ...

    async def push(self) -> Receipt:
        """Push a ticket now."""
        ...

    def recent(self) -> list[SeenRequest]:
        """Return what was seen, oldest first."""
        ...


@frozen
class Page:
    """A JSON answer of the side door."""

    status: int
    body: bytes


async def control(box: Controlled, method: str, path: str, raw: bytes) -> Page:
    """Answer a request to the side door; one that is not understood changes nothing and gets a 4xx."""
    action = _ACTIONS.get((method, path))
    if action is None:
        return _problem(404, f"no {method} {path}")
    try:
        told = action(box, raw)
        return Page(200, orjson.dumps(await told if isinstance(told, Awaitable) else told))
    except (BadFault, NoReceiver, orjson.JSONDecodeError) as problem:
        return _problem(400, str(problem))


def _problem(status: int, words: str) -> Page:
    return Page(status, orjson.dumps({"error": words}))


def _state(box: Controlled, _raw: bytes) -> object:
    world = box.world
    return {
        "component_appid": world.tokens.appid,
        "component_appsecret": world.tokens.secret,
        "ticket": world.ticket,
        "message_token": world.console.message_token,
        "encoding_aes_key": world.console.encoding_aes_key,
        "previous_encoding_aes_key": world.console.previous_encoding_aes_key,
        "mints": world.mints,
        "kills": world.kills,
        "counts": dict(box.counts),
        "push": {
            "sent": box.pushes.sent,
            "failed": box.pushes.failed,
            "stopped": box.pushes.stopped,
            "newest_ticket_age": world.ticket_age,
        },
        "environments": [
            {"env": row.env, "alias": row.alias, "status": row.status} for row in world.environments.values()
        ],
    }


def _add_faults(box: Controlled, raw: bytes) -> object:
    return {"added": box.faults.load(orjson.loads(raw))}


def _clear_faults(box: Controlled, _raw: bytes) -> object:
    box.faults.clear()
    return {}


def _kill_token(box: Controlled, raw: bytes) -> object:
    """Kill now; with a body `{"every": seconds | null}` set the interval instead."""
    if not raw:
        return {"killed": box.world.kill_token()}
    every = _read_interval(orjson.loads(raw))
    try:
        box.faults.kill_token_every = every
    except ValueError as problem:
        raise BadFault(f"$.every: {problem}") from None
    return {"every": box.faults.kill_token_every}


def _read_interval(order: object) -> float | None:
    if not isinstance(order, dict) or set(cast("dict[str, object]", order)) != {"every"}:
        raise BadFault('$ must be {"every": seconds or null}')
    return cast("dict[str, float | None]", order)["every"]


def _confirm(box: Controlled, raw: bytes) -> object:
    """Agree to an offer as the administrator of the mini program would."""
    order = orjson.loads(raw)
    if not isinstance(order, dict) or order.keys() != _OFFER or not all(type(each) is str for each in order.values()):
        raise BadFault('$ must be {"env": what was offered, "appid": to which mini program}')
    try:
        box.world.confirm(**cast("dict[str, str]", order))
    except KeyError:
        raise BadFault(f"$: {order['env']} was not offered to {order['appid']}") from None
    return {"confirmed": True}


async def _push(box: Controlled, raw: bytes) -> object:
    """Push a ticket now; with a body `{"url": ..., "every": seconds}` push there from now on instead."""
    if raw:
        return _push_to(box, orjson.loads(raw))
    receipt = await box.push()
    return {"accepted": receipt.accepted, "answer": str(receipt)}


def _push_to(box: Controlled, order: object) -> object:
    if not isinstance(order, dict) or not {"url"} <= order.keys() <= _ORDER:
        raise BadFault('$ must be {"url": where, "every": seconds or null}, with "repeated" and "late" if wanted')
    try:
        box.push_to(**cast("dict[str, Any]", order))
    except (ImportError, TypeError, ValueError) as problem:
        raise BadFault(f"$: {problem}") from None
    return {"url": order["url"], "every": box.pushes.pace.every}


def _rotate_key(box: Controlled, _raw: bytes) -> object:
    console = box.world.console
    console.rotate_key()
    return {
        "encoding_aes_key": console.encoding_aes_key,
        "previous_encoding_aes_key": console.previous_encoding_aes_key,
    }


def _seen(box: Controlled, _raw: bytes) -> object:
    return [
        {
            "path": seen.path,
            "query": dict(seen.query),
            "body": seen.body,
            "at": seen.at,
            "errcode": seen.errcode,
            "outcome": seen.outcome,
            "acted": seen.acted,
        }
        for seen in box.recent()
    ]


_ACTIONS: Final[dict[tuple[str, str], Callable[[Controlled, bytes], object]]] = {
    ("GET", PREFIX): _state,
    ("GET", f"{PREFIX}/seen"): _seen,
    ("POST", f"{PREFIX}/faults"): _add_faults,
    ("DELETE", f"{PREFIX}/faults"): _clear_faults,
    ("POST", f"{PREFIX}/kill-token"): _kill_token,
    ("POST", f"{PREFIX}/confirm"): _confirm,
    ("POST", f"{PREFIX}/operations"): lambda box, raw: conduct_operations(box.world, orjson.loads(raw)),
    ("POST", f"{PREFIX}/functions"): lambda box, raw: conduct_functions(box.world, orjson.loads(raw)),
    ("POST", f"{PREFIX}/push"): _push,
    ("POST", f"{PREFIX}/rotate-key"): _rotate_key,
}

ORDERS: Final = tuple(_ACTIONS)
