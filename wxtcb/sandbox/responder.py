"""What goes out for a request: the platform's answer, bent by the fault that strikes. Pure; sending is elsewhere."""

from __future__ import annotations

import gzip
import html
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Final, cast

import orjson
from attrs import evolve, frozen

from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.faults import Fault, FaultKind, Faults
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.request import TOKEN_PARAM, Body, PlatformRequest, PlatformResponse
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, Credential, EndpointSchema
from wxtcb.sandbox.validator import check_action_matches, check_body, check_duplicate_keys, check_query
from wxtcb.sandbox.world import World

__all__ = ["DeliveryMode", "OutgoingResponse", "respond"]

_JSON_HEADERS: Final = {"Content-Type": "application/json; encoding=utf-8"}
_HTML_HEADERS: Final = {"Content-Type": "text/html; charset=utf-8"}


class DeliveryMode(Enum):
    """How bytes are sent."""

    COMPLETE = "whole"
    TRUNCATED = "truncated"
    DROPPED = "dropped"
    HUNG = "hung"
    PADDED = "padded"


@frozen
class OutgoingResponse:
    """All that the I/O has to know."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = _JSON_HEADERS
    delivery_mode: DeliveryMode = DeliveryMode.COMPLETE
    delay: float = 0.0
    megabytes: int = 0
    errcode: int | None = None
    outcome: str = "answered"
    acted: bool = False


_FaultEffect = Callable[[World, PlatformRequest, Fault, OutgoingResponse], OutgoingResponse]


def respond(world: World, faults: Faults, request: PlatformRequest) -> OutgoingResponse:
    """Decide which fault strikes, let the platform act if it gets to act, and say what goes out."""
    call = ENDPOINT_SCHEMAS.get(request.path)
    if call is None:
        return OutgoingResponse(_html_page(404, "Not Found"), 404, _HTML_HEADERS, outcome="not found")
    if call.credential is Credential.COMPONENT and _has_valid_token(world) and faults.is_expiry_due(world.clock()):
        world.expire_token()
    fault = faults.next_fault(request.path)
    out = _without_fault(handle_request(world, request)) if fault is None else _apply_fault(world, request, fault)
    if out.errcode:
        world.failed_requests.record(world.unix_time(), request.url.partition("?")[2], request.raw_body, out.body)
    return out


def _has_valid_token(world: World) -> bool:
    return world.credentials.has_valid_token(world.clock())


def _without_fault(response: PlatformResponse) -> OutgoingResponse:
    return OutgoingResponse(response.body, errcode=response.errcode, acted=response.acted)


def _apply_fault(world: World, request: PlatformRequest, fault: Fault) -> OutgoingResponse:
    if fault.trouble is FaultKind.EXPIRE_TOKEN:
        world.expire_token()
    before = _EFFECTS_BEFORE_CALL.get(fault.trouble)
    if before is not None:
        return evolve(before(world, request, fault, OutgoingResponse()), outcome=fault.trouble.value)
    honest = _without_fault(handle_request(world, request))
    return evolve(_EFFECTS_AFTER_CALL[fault.trouble](world, request, fault, honest), outcome=fault.trouble.value)


def handle_request(world: World, request: PlatformRequest) -> PlatformResponse:
    """Answer a request to a known path as the platform would in good health."""
    try:
        body = _dispatch(world, request, ENDPOINT_SCHEMAS[request.path])
    except PlatformError as no:
        return error_response(world, no)
    return PlatformResponse(0, body, acted=True)


def error_response(world: World, error: PlatformError) -> PlatformResponse:
    """Word a refusal; the message ends with a request id."""
    said = {"errcode": error.errcode, "errmsg": f"{error.message} rid: {world.new_request_id()}"}
    return PlatformResponse(error.errcode, orjson.dumps(said), acted=False)


def _dispatch(world: World, request: PlatformRequest, schema: EndpointSchema) -> bytes:
    if request.method != schema.method:
        raise platform_error(43002)
    check_query(schema, request.query)
    token = request.query.get(TOKEN_PARAM)
    if schema.credential is Credential.COMPONENT and not (
        schema.accepts_authorizer_token and world.credentials.is_authorizer_token(token)
    ):
        world.credentials.check_token(token, world.clock())
    world.acquire(request.path)
    return HANDLERS[request.path](world, _validate_body(request, schema))


def _validate_body(request: PlatformRequest, schema: EndpointSchema) -> Body:
    """Return what the call holds, query and body together, or refuse what the facts do not allow."""
    if request.error_code and not (schema.is_raw and request.error_code == _MALFORMED_JSON):
        raise platform_error(request.error_code, "$")
    if schema.is_raw:
        return Body(request.query, request.raw_body)
    check_duplicate_keys(request.raw_body)
    body = cast("dict[str, object]", request.parsed_body)
    check_body(schema, body)
    check_action_matches(request.query, body)
    return Body({**request.query, **body} if schema.query_schema.fields else body)


_MALFORMED_JSON: Final = 47001


def _html_page(status: int, message: str) -> bytes:
    return f"<html><head><title>{status}</title></head><body><h1>{message}</h1></body></html>".encode()


def _describe_request(request: PlatformRequest) -> str:
    return f"{request.method} {request.url} {request.raw_body.decode(errors='replace')}"


def _with_error(world: World, error: PlatformError, outgoing: OutgoingResponse) -> OutgoingResponse:
    said = error_response(world, error)
    return evolve(outgoing, body=said.body, errcode=said.errcode)


def _errcode(world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return _with_error(world, platform_error(fault.errcode), outgoing)


def _system_busy(
    world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse
) -> OutgoingResponse:
    return _with_error(world, platform_error(-1), outgoing)


def _system_error(
    world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse
) -> OutgoingResponse:
    return _with_error(world, platform_error(-1000), outgoing)


def _echo_message(world: World, request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return _with_error(world, platform_error(fault.errcode, _describe_request(request)), outgoing)


def _echo_page(_world: World, request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    status = fault.status or 502
    page = _html_page(status, html.escape(_describe_request(request), quote=False))
    return evolve(outgoing, body=page, status=status, headers=_HTML_HEADERS, errcode=None)


def _http(_world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    status = fault.status or 502
    return evolve(outgoing, body=_html_page(status, "Bad luck"), status=status, headers=_HTML_HEADERS, errcode=None)


def _redirect(_world: World, request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    status = fault.status or 307
    headers = {**_HTML_HEADERS, "Location": request.url}
    return evolve(outgoing, body=_html_page(status, "Moved"), status=status, headers=headers)


def _drop(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, delivery_mode=DeliveryMode.DROPPED, errcode=None)


def _truncate(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, delivery_mode=DeliveryMode.TRUNCATED, errcode=None)


def _hang(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, delivery_mode=DeliveryMode.HUNG, errcode=None)


def _slow(_world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, delay=fault.seconds)


def _huge(_world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, delivery_mode=DeliveryMode.PADDED, megabytes=fault.megabytes)


def _plain(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, headers={"Content-Type": "text/plain"})


def _gzip(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(
        outgoing, body=gzip.compress(outgoing.body, mtime=0), headers={**_JSON_HEADERS, "Content-Encoding": "gzip"}
    )


def _empty(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, body=b"", errcode=None)


def _not_object(_world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, body=fault.text.encode(), errcode=None)


def _missing(_world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return evolve(outgoing, body=_remove_field(outgoing.body, fault.name))


def _incomplete_list(
    _world: World, _request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse
) -> OutgoingResponse:
    return evolve(outgoing, body=_omit_environments(outgoing.body, fault.envs, fault.newest))


def _unchanged(_world: World, _request: PlatformRequest, _fault: Fault, outgoing: OutgoingResponse) -> OutgoingResponse:
    return outgoing


def _remove_field(reply: bytes, name: str) -> bytes:
    """Take a field out of a reply; in a dotted name every step but the last may be an object or an array."""
    document: object = orjson.loads(reply)
    _remove_path(document, name.split("."))
    return orjson.dumps(document)


def _remove_path(node: object, steps: list[str]) -> None:
    if isinstance(node, list):
        for item in cast("list[object]", node):
            _remove_path(item, steps)
    if not isinstance(node, dict):
        return
    holder = cast("dict[str, object]", node)
    if len(steps) == 1:
        holder.pop(steps[0], None)
    else:
        _remove_path(holder.get(steps[0]), steps[1:])


def _omit_environments(reply: bytes, envs: Collection[str], newest: int | None) -> bytes:
    """Take environments out of a describeenvs reply: those named, or the last so many, or all of them."""
    document: dict[str, object] = orjson.loads(reply)
    if "info_list" not in document:
        return reply
    rows = cast("list[dict[str, str]]", document["info_list"])
    count = max(0, len(rows) - newest) if newest else 0
    document["info_list"] = [row for row in rows if row["env"] not in envs] if envs else rows[:count]
    return orjson.dumps(document)


_EFFECTS_BEFORE_CALL: Final[dict[FaultKind, _FaultEffect]] = {
    FaultKind.BUSY: _system_busy,
    FaultKind.ERRCODE: _errcode,
    FaultKind.ECHO_MESSAGE: _echo_message,
    FaultKind.DROP: _drop,
    FaultKind.HANG: _hang,
    FaultKind.HTTP: _http,
    FaultKind.REDIRECT: _redirect,
}

_EFFECTS_AFTER_CALL: Final[dict[FaultKind, _FaultEffect]] = {
    FaultKind.BUSY_AFTER: _system_busy,
    FaultKind.SYSTEM_ERROR_AFTER: _system_error,
    FaultKind.EXPIRE_TOKEN: _unchanged,
    FaultKind.DROP_AFTER: _drop,
    FaultKind.TRUNCATE: _truncate,
    FaultKind.SLOW: _slow,
    FaultKind.HANG_AFTER: _hang,
    FaultKind.HTTP_AFTER: _http,
    FaultKind.PLAIN: _plain,
    FaultKind.GZIP: _gzip,
    FaultKind.EMPTY: _empty,
    FaultKind.NOT_OBJECT: _not_object,
    FaultKind.MISSING: _missing,
    FaultKind.HUGE: _huge,
    FaultKind.INCOMPLETE_LIST: _incomplete_list,
    FaultKind.ECHO_PAGE: _echo_page,
}
