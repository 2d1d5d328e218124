"""Admin API for other processes and languages, under `/_sandbox`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final

import orjson
from attrs import asdict, fields

from wxtcb.sandbox.faults import FaultKind, InvalidFault
from wxtcb.sandbox.push.schedule import PushTargetNotSet
from wxtcb.sandbox.request import SeenRequest
from wxtcb.sandbox.services.context import ReadyPolicy

if TYPE_CHECKING:
    from wxtcb.sandbox.server import Sandbox

ADMIN_PREFIX: Final = "/_sandbox"
_PUSH_FIELDS: Final = {"url", "every", "repeated", "late"}


class _InvalidOption(ValueError):
    """An option in the body of a request is unknown, missing or out of range."""


async def handle_admin_request(
    sandbox: Sandbox, method: str, path: str, headers: Mapping[str, str], raw_body: bytes
) -> tuple[int, bytes]:
    """Return status and JSON of the response to a request.

    A rejected request changes nothing: 403 if it may come from a web page, 404 for an unknown path, 415 for an order
    that is not JSON, and 400 for an invalid body.
    """
    if not _is_local_request(sandbox, headers):
        reason = f"web pages may not use this API: Host must be {_authority(sandbox)}, and Origin absent or equal"
        return 403, orjson.dumps({"error": reason})
    handler = _HANDLERS.get((method, path))
    if handler is None:
        return 404, orjson.dumps({"error": f"{method} {path} does not exist"})
    if method == "POST" and headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, orjson.dumps({"error": "a POST needs the header Content-Type: application/json, also without body"})
    try:
        result = handler(sandbox, raw_body)
        content: object = await result if isinstance(result, Awaitable) else result
        return 200, orjson.dumps({} if content is None else content)
    except (InvalidFault, _InvalidOption, PushTargetNotSet, orjson.JSONDecodeError) as error:
        return 400, orjson.dumps({"error": str(error)})


def _authority(sandbox: Sandbox) -> str:
    return sandbox.url.removeprefix("http://")


def _is_local_request(sandbox: Sandbox, headers: Mapping[str, str]) -> bool:
    """Return whether a request was addressed to this machine, and not sent by a page of another origin."""
    # A web page can send requests to loopback. Its Origin gives it away, and its Host if its name resolves to loopback.
    # The content type of orders covers browsers that send no Origin: a page cannot send JSON without asking first.
    host, port = headers.get("Host", "").lower(), sandbox.port
    known = {_authority(sandbox), f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"}
    # A client omits the port if it is 80.
    has_port = ":" in host.rpartition("]")[2]
    return (host if has_port else f"{host}:80") in known and headers.get("Origin", f"http://{host}") == f"http://{host}"


def _get_state(sandbox: Sandbox, _raw_body: bytes) -> object:
    # Credentials are shown on purpose: they are made up, and another process needs them to connect.
    world, pushes = sandbox.world, sandbox.pushes
    rows = [{"env": each.env, "alias": each.alias, "status": each.status} for each in world.environments.values()]
    push = {"sent": pushes.sent, "failed": pushes.failed, "stopped": pushes.stopped}
    return {
        "component_appid": world.credentials.appid,
        "component_appsecret": world.credentials.secret,
        "ticket": world.ticket,
        "message_token": world.message_settings.message_token,
        "encoding_aes_key": world.message_settings.encoding_aes_key,
        "previous_encoding_aes_key": world.message_settings.previous_encoding_aes_key,
        "tokens_issued": world.tokens_issued,
        "forced_expirations": world.forced_expirations,
        "counts": dict(sandbox.counts),
        "push": {**push, "newest_ticket_age": world.ticket_age},
        "environments": rows,
    }


def _list_seen(sandbox: Sandbox, _raw_body: bytes) -> object:
    names = [each.name for each in fields(SeenRequest) if each.name != "size"]
    rows = [{name: getattr(seen, name) for name in names} for seen in sandbox.list_seen()]
    # The query can be a read-only mapping, which orjson does not encode.
    return [{**row, "query": dict(row["query"])} for row in rows]


def _list_faults(sandbox: Sandbox, _raw_body: bytes) -> object:
    """Return all kinds of faults, and the active ones as they can be added again."""
    kinds = [{"kind": kind.value, "takes_effect": kind.takes_effect} for kind in FaultKind]
    active = [asdict(fault, filter=lambda each, value: value != each.default) for fault in sandbox.faults.active]
    return {"kinds": kinds, "active": active, "expire_token_every": sandbox.faults.expire_token_every}


def _expire_token(sandbox: Sandbox, raw_body: bytes) -> object:
    """Expire the token now, or set the interval if the body is `{"every": seconds | null}`."""
    if not raw_body:
        return {"expired": sandbox.world.expire_token()}
    options = orjson.loads(raw_body)
    if not isinstance(options, dict) or options.keys() != {"every"}:
        raise _InvalidOption('$ must be {"every": seconds or null}')
    try:
        # The validator of the attribute runs on assignment.
        sandbox.faults.expire_token_every = options["every"]
    except ValueError as error:
        raise _InvalidOption(f"$.every: {error}") from error
    return {"every": sandbox.faults.expire_token_every}


def _confirm_share(sandbox: Sandbox, raw_body: bytes) -> object:
    options = orjson.loads(raw_body)
    is_named = isinstance(options, dict) and options.keys() == {"env", "appid"}
    if not is_named or not all(type(value) is str for value in options.values()):
        raise _InvalidOption('$ must be {"env": environment id, "appid": appid of the mini program}')
    try:
        sandbox.world.confirm(**options)
    except KeyError as error:
        raise _InvalidOption(f"$: environment {options['env']} was not offered to {options['appid']}") from error
    return {"confirmed": True}


def _configure_operations(sandbox: Sandbox, raw_body: bytes) -> object:
    """Set when new operations become ready, and whether builds and releases fail; omitted options keep their value."""
    world = sandbox.world
    current = {
        "seconds": world.operations_ready_after.seconds,
        "polls": world.operations_ready_after.polls,
        "builds_fail": world.containers.builds_fail,
        "release_fails": world.cloudrun.release_fails,
    }
    settings = current | _parse_options(raw_body, set(current))
    seconds, polls = settings["seconds"], settings["polls"]
    if type(seconds) not in (int, float) or not 0 <= seconds < inf:
        raise _InvalidOption("$.seconds must be a finite number of at least 0")
    if type(polls) is not int or polls < 0:
        raise _InvalidOption("$.polls must be an integer of at least 0")
    if type(settings["builds_fail"]) is not bool or type(settings["release_fails"]) is not bool:
        raise _InvalidOption("$: builds_fail and release_fails must be true or false")
    # All options are valid: only now is the first one set.
    world.operations_ready_after = ReadyPolicy(seconds, polls)
    world.containers.builds_fail, world.cloudrun.release_fails = settings["builds_fail"], settings["release_fails"]
    return settings


def _configure_functions(sandbox: Sandbox, raw_body: bytes) -> object:
    options = _parse_options(raw_body, {"name", "result", "fails"})
    name, fails = options.get("name"), options.get("fails", False)
    if type(name) is not str or type(fails) is not bool:
        raise _InvalidOption('$ must be {"name": function name}, optionally with "result": any JSON, and "fails": true')
    functions = sandbox.world.functions
    if "result" in options:
        functions.set_handler(name, lambda _event: options["result"])
    (functions.set_failure if fails else functions.clear_failure)(name)
    return {"name": name, "fails": fails}


def _parse_options(raw_body: bytes, names: set[str]) -> dict[str, Any]:
    options = orjson.loads(raw_body)
    if not isinstance(options, dict) or not options.keys() <= names:
        raise _InvalidOption(f"$ must be an object with these names only: {', '.join(sorted(names))}")
    return options


async def _push(sandbox: Sandbox, raw_body: bytes) -> object:
    """Push a ticket now, or from now on if the body is `{"url": ..., "every": seconds}`."""
    if not raw_body:
        result = await sandbox.push()
        return {"accepted": result.accepted, "result": str(result)}
    options = orjson.loads(raw_body)
    if not isinstance(options, dict) or not {"url"} <= options.keys() <= _PUSH_FIELDS:
        raise _InvalidOption('$ must be {"url": URL, "every": seconds or null}, optionally with "repeated" and "late"')
    try:
        sandbox.push_to(**options)
    except (ImportError, TypeError, ValueError) as error:
        raise _InvalidOption(f"$: {error}") from error
    return {"url": options["url"], "every": sandbox.pushes.settings.every}


def _rotate_key(sandbox: Sandbox, _raw_body: bytes) -> object:
    previous = sandbox.encoding_aes_key
    return {"encoding_aes_key": sandbox.rotate_key(), "previous_encoding_aes_key": previous}


_HANDLERS: Final[dict[tuple[str, str], Callable[[Sandbox, bytes], object]]] = {
    ("GET", ADMIN_PREFIX): _get_state,
    ("GET", f"{ADMIN_PREFIX}/seen"): _list_seen,
    ("GET", f"{ADMIN_PREFIX}/faults"): _list_faults,
    ("POST", f"{ADMIN_PREFIX}/faults"): lambda sandbox, body: {"added": sandbox.faults.load(orjson.loads(body))},
    ("DELETE", f"{ADMIN_PREFIX}/faults"): lambda sandbox, _body: sandbox.faults.clear(),
    ("POST", f"{ADMIN_PREFIX}/kill-token"): _expire_token,
    ("POST", f"{ADMIN_PREFIX}/confirm"): _confirm_share,
    ("POST", f"{ADMIN_PREFIX}/operations"): _configure_operations,
    ("POST", f"{ADMIN_PREFIX}/functions"): _configure_functions,
    ("POST", f"{ADMIN_PREFIX}/push"): _push,
    ("POST", f"{ADMIN_PREFIX}/rotate-key"): _rotate_key,
    ("POST", f"{ADMIN_PREFIX}/reset"): lambda sandbox, _body: sandbox.reset(),
}

ADMIN_ROUTES: Final = tuple(_HANDLERS)
