"""What goes out for a request: the platform's answer, bent by the fault that strikes. Pure; sending is elsewhere."""

from __future__ import annotations

import gzip
import html
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Final, cast

import orjson
from attrs import evolve, frozen

from wxtcb.sandbox.answering import answer, refusal
from wxtcb.sandbox.errors import Refused, refuse
from wxtcb.sandbox.fault import Fault, Trouble
from wxtcb.sandbox.faults import Faults
from wxtcb.sandbox.request import Answer, Asked
from wxtcb.sandbox.schema import CALLS, Credential
from wxtcb.sandbox.world import World

__all__ = ["Manner", "Outgoing", "respond"]

_JSON: Final = {"Content-Type": "application/json; encoding=utf-8"}
_HTML: Final = {"Content-Type": "text/html; charset=utf-8"}


class Manner(Enum):
    """How bytes are sent."""

    WHOLE = "whole"
    TRUNCATED = "truncated"
    DROPPED = "dropped"
    HUNG = "hung"
    PADDED = "padded"


@frozen
class Outgoing:
    """All that the I/O has to know."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = _JSON
    manner: Manner = Manner.WHOLE
    delay: float = 0.0
    megabytes: int = 0
    errcode: int | None = None
    outcome: str = "answered"
    acted: bool = False


_Bend = Callable[[World, Asked, Fault, Outgoing], Outgoing]


def respond(world: World, faults: Faults, asked: Asked) -> Outgoing:
    """Decide which fault strikes, let the platform act if it gets to act, and say what goes out."""
    call = CALLS.get(asked.path)
    if call is None:
        return Outgoing(_page(404, "Not Found"), 404, _HTML, outcome="not found")
    if call.credential is Credential.COMPONENT and _token_lives(world) and faults.kill_due(world.clock()):
        world.kill_token()
    fault = faults.choose(asked.path)
    out = _plainly(answer(world, asked)) if fault is None else _play(world, asked, fault)
    if out.errcode:
        world.rids.note(world.unix_time(), asked.url.partition("?")[2], asked.raw, out.body)
    return out


def _token_lives(world: World) -> bool:
    return world.tokens.lives(world.clock())


def _plainly(said: Answer) -> Outgoing:
    return Outgoing(said.body, errcode=said.errcode, acted=said.acted)


def _play(world: World, asked: Asked, fault: Fault) -> Outgoing:
    if fault.trouble is Trouble.KILL:
        world.kill_token()
    before = _BEFORE.get(fault.trouble)
    if before is not None:
        return evolve(before(world, asked, fault, Outgoing()), outcome=fault.trouble.value)
    honest = _plainly(answer(world, asked))
    return evolve(_AFTER[fault.trouble](world, asked, fault, honest), outcome=fault.trouble.value)


def _page(status: int, words: str) -> bytes:
    return f"<html><head><title>{status}</title></head><body><h1>{words}</h1></body></html>".encode()


def _echo(asked: Asked) -> str:
    return f"{asked.method} {asked.url} {asked.raw.decode(errors='replace')}"


def _say(world: World, no: Refused, out: Outgoing) -> Outgoing:
    said = refusal(world, no)
    return evolve(out, body=said.body, errcode=said.errcode)


def _errcode(world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return _say(world, refuse(fault.errcode), out)


def _busy(world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return _say(world, refuse(-1), out)


def _system_error(world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return _say(world, refuse(-1000), out)


def _echo_message(world: World, asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return _say(world, refuse(fault.errcode, _echo(asked)), out)


def _echo_page(_world: World, asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    status = fault.status or 502
    page = _page(status, html.escape(_echo(asked), quote=False))
    return evolve(out, body=page, status=status, headers=_HTML, errcode=None)


def _http(_world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    status = fault.status or 502
    return evolve(out, body=_page(status, "Bad luck"), status=status, headers=_HTML, errcode=None)


def _redirect(_world: World, asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    status = fault.status or 307
    headers = {**_HTML, "Location": asked.url}
    return evolve(out, body=_page(status, "Moved"), status=status, headers=headers)


def _drop(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, manner=Manner.DROPPED, errcode=None)


def _truncate(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, manner=Manner.TRUNCATED, errcode=None)


def _hang(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, manner=Manner.HUNG, errcode=None)


def _slow(_world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, delay=fault.seconds)


def _huge(_world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, manner=Manner.PADDED, megabytes=fault.megabytes)


def _plain(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, headers={"Content-Type": "text/plain"})


def _gzip(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, body=gzip.compress(out.body, mtime=0), headers={**_JSON, "Content-Encoding": "gzip"})


def _empty(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, body=b"", errcode=None)


def _not_object(_world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, body=fault.text.encode(), errcode=None)


def _missing(_world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, body=_strip_field(out.body, fault.name))


def _hiccup(_world: World, _asked: Asked, fault: Fault, out: Outgoing) -> Outgoing:
    return evolve(out, body=_omit_environments(out.body, fault.envs, fault.newest))


def _honestly(_world: World, _asked: Asked, _fault: Fault, out: Outgoing) -> Outgoing:
    return out


def _strip_field(reply: bytes, name: str) -> bytes:
    """Take a field out of a reply; in a dotted name every step but the last may be an object or an array."""
    document: object = orjson.loads(reply)
    _strip(document, name.split("."))
    return orjson.dumps(document)


def _strip(node: object, steps: list[str]) -> None:
    if isinstance(node, list):
        for item in cast("list[object]", node):
            _strip(item, steps)
    if not isinstance(node, dict):
        return
    holder = cast("dict[str, object]", node)
    if len(steps) == 1:
        holder.pop(steps[0], None)
    else:
        _strip(holder.get(steps[0]), steps[1:])


def _omit_environments(reply: bytes, envs: Collection[str], newest: int | None) -> bytes:
    """Take environments out of a describeenvs reply: those named, or the last so many, or all of them."""
    document: dict[str, object] = orjson.loads(reply)
    if "info_list" not in document:
        return reply
    rows = cast("list[dict[str, str]]", document["info_list"])
    count = max(0, len(rows) - newest) if newest else 0
    document["info_list"] = [row for row in rows if row["env"] not in envs] if envs else rows[:count]
    return orjson.dumps(document)


_BEFORE: Final[dict[Trouble, _Bend]] = {
    Trouble.BUSY: _busy,
    Trouble.ERRCODE: _errcode,
    Trouble.ECHO_MESSAGE: _echo_message,
    Trouble.DROP: _drop,
    Trouble.HANG: _hang,
    Trouble.HTTP: _http,
    Trouble.REDIRECT: _redirect,
}

_AFTER: Final[dict[Trouble, _Bend]] = {
    Trouble.BUSY_AFTER: _busy,
    Trouble.SYSTEM_ERROR_AFTER: _system_error,
    Trouble.KILL: _honestly,
    Trouble.DROP_AFTER: _drop,
    Trouble.TRUNCATE: _truncate,
    Trouble.SLOW: _slow,
    Trouble.HANG_AFTER: _hang,
    Trouble.HTTP_AFTER: _http,
    Trouble.PLAIN: _plain,
    Trouble.GZIP: _gzip,
    Trouble.EMPTY: _empty,
    Trouble.NOT_OBJECT: _not_object,
    Trouble.MISSING: _missing,
    Trouble.HUGE: _huge,
    Trouble.HICCUP: _hiccup,
    Trouble.ECHO_PAGE: _echo_page,
}
