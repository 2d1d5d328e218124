"""The side door for other processes and other languages: HTTP under `/_sandbox`, outside the simulation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any, Final, Protocol, cast

import orjson
from attrs import frozen

from wxtcb.sandbox.environments import ReadyPolicy
from wxtcb.sandbox.faults import Faults, InvalidFault
from wxtcb.sandbox.push.schedule import PushResult, PushSchedule, PushTargetNotSet
from wxtcb.sandbox.request import SeenRequest
from wxtcb.sandbox.world import World

__all__ = ["ADMIN_PREFIX", "ADMIN_ROUTES", "AdminResponse", "AdminTarget", "handle_admin_request"]

ADMIN_PREFIX: Final = "/_sandbox"
_PUSH_FIELDS: Final = {"url", "every", "repeated", "late"}
_CONFIRM_FIELDS: Final = {"env", "appid"}
_OPERATION_FIELDS: Final = {"seconds", "looks", "builds_fail", "release_fails"}
_FUNCTION_FIELDS: Final = {"name", "answer", "fails"}


class AdminTarget(Protocol):
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
    def pushes(self) -> PushSchedule:
        """What was pushed."""
        ...

    def push_to(self, url: str, *, every: float | None = ..., repeated: float = ..., late: float = ...) -> None:
        """Push to this address from now on."""
        ...

    async def push(self) -> PushResult:
        """Push a ticket now."""
        ...

    def list_seen(self) -> list[SeenRequest]:
        """Return what was seen, oldest first."""
        ...


@frozen
class AdminResponse:
    """A JSON answer of the side door."""

    status: int
    body: bytes


async def handle_admin_request(sandbox: AdminTarget, method: str, path: str, raw: bytes) -> AdminResponse:
    """Answer a request to the side door; one that is not understood changes nothing and gets a 4xx."""
    action = _HANDLERS.get((method, path))
    if action is None:
        return _error_page(404, f"no {method} {path}")
    try:
        told = action(sandbox, raw)
        return AdminResponse(200, orjson.dumps(await told if isinstance(told, Awaitable) else told))
    except (InvalidFault, PushTargetNotSet, orjson.JSONDecodeError) as problem:
        return _error_page(400, str(problem))


def _error_page(status: int, message: str) -> AdminResponse:
    return AdminResponse(status, orjson.dumps({"error": message}))


def _get_state(sandbox: AdminTarget, _raw: bytes) -> object:
    world = sandbox.world
    return {
        "component_appid": world.credentials.appid,
        "component_appsecret": world.credentials.secret,
        "ticket": world.ticket,
        "message_token": world.message_settings.message_token,
        "encoding_aes_key": world.message_settings.encoding_aes_key,
        "previous_encoding_aes_key": world.message_settings.previous_encoding_aes_key,
        "mints": world.tokens_issued,
        "kills": world.forced_expirations,
        "counts": dict(sandbox.counts),
        "push": {
            "sent": sandbox.pushes.sent,
            "failed": sandbox.pushes.failed,
            "stopped": sandbox.pushes.stopped,
            "newest_ticket_age": world.ticket_age,
        },
        "environments": [
            {"env": row.env, "alias": row.alias, "status": row.status} for row in world.environments.values()
        ],
    }


def _add_faults(sandbox: AdminTarget, raw: bytes) -> object:
    return {"added": sandbox.faults.load(orjson.loads(raw))}


def _clear_faults(sandbox: AdminTarget, _raw: bytes) -> object:
    sandbox.faults.clear()
    return {}


def _expire_token(sandbox: AdminTarget, raw: bytes) -> object:
    """Kill now; with a body `{"every": seconds | null}` set the interval instead."""
    if not raw:
        return {"killed": sandbox.world.expire_token()}
    every = _parse_interval(orjson.loads(raw))
    try:
        sandbox.faults.expire_token_every = every
    except ValueError as problem:
        raise InvalidFault(f"$.every: {problem}") from None
    return {"every": sandbox.faults.expire_token_every}


def _parse_interval(options: object) -> float | None:
    if not isinstance(options, dict) or set(cast("dict[str, object]", options)) != {"every"}:
        raise InvalidFault('$ must be {"every": seconds or null}')
    return cast("dict[str, float | None]", options)["every"]


def _confirm_share(sandbox: AdminTarget, raw: bytes) -> object:
    """Agree to an offer as the administrator of the mini program would."""
    order = orjson.loads(raw)
    if (
        not isinstance(order, dict)
        or order.keys() != _CONFIRM_FIELDS
        or not all(type(each) is str for each in order.values())
    ):
        raise InvalidFault('$ must be {"env": what was offered, "appid": to which mini program}')
    try:
        sandbox.world.confirm(**cast("dict[str, str]", order))
    except KeyError:
        raise InvalidFault(f"$: {order['env']} was not offered to {order['appid']}") from None
    return {"confirmed": True}


async def _push(sandbox: AdminTarget, raw: bytes) -> object:
    """Push a ticket now; with a body `{"url": ..., "every": seconds}` push there from now on instead."""
    if raw:
        return _configure_push(sandbox, orjson.loads(raw))
    receipt = await sandbox.push()
    return {"accepted": receipt.accepted, "answer": str(receipt)}


def _configure_push(sandbox: AdminTarget, options: object) -> object:
    if not isinstance(options, dict) or not {"url"} <= options.keys() <= _PUSH_FIELDS:
        raise InvalidFault('$ must be {"url": where, "every": seconds or null}, with "repeated" and "late" if wanted')
    try:
        sandbox.push_to(**cast("dict[str, Any]", options))
    except (ImportError, TypeError, ValueError) as problem:
        raise InvalidFault(f"$: {problem}") from None
    return {"url": options["url"], "every": sandbox.pushes.settings.every}


def _rotate_key(sandbox: AdminTarget, _raw: bytes) -> object:
    console = sandbox.world.message_settings
    console.rotate_key()
    return {
        "encoding_aes_key": console.encoding_aes_key,
        "previous_encoding_aes_key": console.previous_encoding_aes_key,
    }


def _list_seen(sandbox: AdminTarget, _raw: bytes) -> object:
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
        for seen in sandbox.list_seen()
    ]


def configure_operations(world: World, options: object) -> object:
    """Say when operations that begin from now on get ready, and whether builds and releases fail; the rest stays."""
    now = {
        "seconds": world.operations_ready_after.seconds,
        "looks": world.operations_ready_after.polls,
        "builds_fail": world.containers.builds_fail,
        "release_fails": world.cloudrun.release_fails,
    }
    wanted = now | _parse_options(options, _OPERATION_FIELDS)
    seconds, looks = wanted["seconds"], wanted["looks"]
    if type(seconds) not in (int, float) or type(looks) is not int or not (0 <= seconds < inf and looks >= 0):
        raise InvalidFault("$: seconds and looks must be numbers from 0 on, looks a whole one")
    if type(wanted["builds_fail"]) is not bool or type(wanted["release_fails"]) is not bool:
        raise InvalidFault("$: builds_fail and release_fails must be true or false")
    world.operations_ready_after = ReadyPolicy(seconds, looks)
    world.containers.builds_fail, world.cloudrun.release_fails = wanted["builds_fail"], wanted["release_fails"]
    return wanted


def configure_functions(world: World, options: object) -> object:
    """Let functions of a name return `answer`, or fail whenever they are created or changed as long as `fails`."""
    wanted = _parse_options(options, _FUNCTION_FIELDS)
    name, fails = wanted.get("name"), wanted.get("fails", False)
    if type(name) is not str or type(fails) is not bool:
        raise InvalidFault('$ must be {"name": of the functions}, with "answer": what they return, and "fails": true')
    if "answer" in wanted:
        world.functions.set_handler(name, lambda _event: wanted["answer"])
    if fails:
        world.functions.set_failure(name)
    else:
        world.functions.clear_failure(name)
    return {"name": name, "fails": fails}


def _parse_options(options: object, names: set[str]) -> dict[str, Any]:
    if not isinstance(options, Mapping) or not options.keys() <= names:
        raise InvalidFault(f"$ must be an object with no other names than {', '.join(sorted(names))}")
    return dict(cast("Mapping[str, Any]", options))


_HANDLERS: Final[dict[tuple[str, str], Callable[[AdminTarget, bytes], object]]] = {
    ("GET", ADMIN_PREFIX): _get_state,
    ("GET", f"{ADMIN_PREFIX}/seen"): _list_seen,
    ("POST", f"{ADMIN_PREFIX}/faults"): _add_faults,
    ("DELETE", f"{ADMIN_PREFIX}/faults"): _clear_faults,
    ("POST", f"{ADMIN_PREFIX}/kill-token"): _expire_token,
    ("POST", f"{ADMIN_PREFIX}/confirm"): _confirm_share,
    ("POST", f"{ADMIN_PREFIX}/operations"): lambda box, raw: configure_operations(box.world, orjson.loads(raw)),
    ("POST", f"{ADMIN_PREFIX}/functions"): lambda box, raw: configure_functions(box.world, orjson.loads(raw)),
    ("POST", f"{ADMIN_PREFIX}/push"): _push,
    ("POST", f"{ADMIN_PREFIX}/rotate-key"): _rotate_key,
}

ADMIN_ROUTES: Final = tuple(_HANDLERS)
