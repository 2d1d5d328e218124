"""Responses of the simulated platform, and how a fault changes them; pure, `server` sends them."""

from __future__ import annotations

import gzip
import html
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Final, cast

import orjson
from attrs import evolve, frozen

from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.faults import Fault, FaultKind, Faults
from wxtcb.sandbox.request import MALFORMED_JSON, Body, PlatformRequest
from wxtcb.sandbox.routes import handle
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, CredentialKind, EndpointSchema
from wxtcb.sandbox.validator import check_body, check_duplicate_keys, check_query, find_token, merge_action
from wxtcb.sandbox.world import World

# "encoding=utf-8" is not a standard parameter, but it is what api.weixin.qq.com sends.
_JSON_HEADERS: Final = {"Content-Type": "application/json; encoding=utf-8"}
_HTML_HEADERS: Final = {"Content-Type": "text/html; charset=utf-8"}


class DeliveryMode(Enum):
    """Delivery mode of a response."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    DROPPED = "dropped"
    HUNG = "hung"
    PADDED = "padded"


@frozen
class OutgoingResponse:
    """A response to send, after `delay` seconds, and what `SeenRequest` records about it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = _JSON_HEADERS
    delivery_mode: DeliveryMode = DeliveryMode.COMPLETE
    delay: float = 0.0
    megabytes: int = 0
    errcode: int | None = None
    outcome: str = "answered"
    acted: bool = False


def respond(world: World, faults: Faults, request: PlatformRequest) -> OutgoingResponse:
    """Handle a request, apply the fault that matches it, and return the response to send."""
    schema = ENDPOINT_SCHEMAS.get(request.path)
    if schema is None:
        return evolve(_html_response(OutgoingResponse(), 404, "Not Found"), outcome="not found")
    now = world.clock()
    has_token = schema.credential is CredentialKind.COMPONENT and world.credentials.has_valid_token(now)
    # `is_expiry_due` comes last because it starts the next interval; without a valid token there is nothing to expire.
    if has_token and faults.is_expiry_due(now):
        world.expire_token()
    fault = faults.next_fault(request.path)
    outgoing = _handle_request(world, request, schema) if fault is None else _apply_fault(world, request, schema, fault)
    if outgoing.errcode:
        query = request.url.partition("?")[2]
        world.failed_requests.record(world.unix_time(), query, request.raw_body, outgoing.body)
    return outgoing


def _handle_request(world: World, request: PlatformRequest, schema: EndpointSchema) -> OutgoingResponse:
    try:
        body = handle(world, request.path, _check_request(world, request, schema))
    except PlatformError as error:
        return _error_response(world, error, OutgoingResponse())
    return OutgoingResponse(body, errcode=0, acted=True)


def _check_request(world: World, request: PlatformRequest, schema: EndpointSchema) -> Body:
    # The order decides which errcode a request with several errors gets: method, query, token, rate limit, body.
    if request.method != schema.method:
        raise platform_error(43002)
    check_query(schema, request.query)
    token = find_token(request.query)
    if schema.credential is CredentialKind.COMPONENT and not (
        schema.accepts_authorizer_token and world.credentials.is_authorizer_token(token)
    ):
        world.credentials.check_token(token, world.clock())
    # A call with an invalid body counts against the limits too, one with an invalid token does not.
    world.acquire(request.path)
    # A raw body may be anything but empty or too long.
    if request.error_code and not (schema.is_raw and request.error_code == MALFORMED_JSON):
        raise platform_error(request.error_code, "$")
    if schema.is_raw:
        return Body(request.query, request.raw_body)
    check_duplicate_keys(request.raw_body)
    body = merge_action(request.query, cast("dict[str, object]", request.parsed_body))
    check_body(schema, body)
    return Body({**request.query, **body} if schema.query_schema.fields else body)


def _error_response(world: World, error: PlatformError, outgoing: OutgoingResponse) -> OutgoingResponse:
    # WeChat ends every errmsg with the request id, which openapi/rid/get resolves.
    reply = {"errcode": error.errcode, "errmsg": f"{error.message} rid: {world.new_request_id()}"}
    return evolve(outgoing, body=orjson.dumps(reply), errcode=error.errcode)


def _apply_fault(world: World, request: PlatformRequest, schema: EndpointSchema, fault: Fault) -> OutgoingResponse:
    if fault.kind is FaultKind.EXPIRE_TOKEN:
        # Before the call is handled: it is the first one that meets the expired token.
        world.expire_token()
    outgoing = _handle_request(world, request, schema) if fault.kind.takes_effect else OutgoingResponse()
    return evolve(_change_response(world, request, fault, outgoing), outcome=fault.kind.value)


def _change_response(
    world: World, request: PlatformRequest, fault: Fault, outgoing: OutgoingResponse
) -> OutgoingResponse:
    # `errcode` becomes None where the client cannot read one.
    match fault.kind:
        case FaultKind.BUSY | FaultKind.BUSY_AFTER | FaultKind.SYSTEM_ERROR_AFTER:
            errcode = -1000 if fault.kind is FaultKind.SYSTEM_ERROR_AFTER else -1
            return _error_response(world, platform_error(errcode), outgoing)
        case FaultKind.ERRCODE:
            return _error_response(world, platform_error(fault.errcode), outgoing)
        case FaultKind.ECHO_MESSAGE:
            return _error_response(world, platform_error(fault.errcode, _describe_request(request)), outgoing)
        case FaultKind.DROP | FaultKind.DROP_AFTER:
            return evolve(outgoing, delivery_mode=DeliveryMode.DROPPED, errcode=None)
        case FaultKind.HANG | FaultKind.HANG_AFTER:
            return evolve(outgoing, delivery_mode=DeliveryMode.HUNG, errcode=None)
        case FaultKind.TRUNCATE:
            return evolve(outgoing, delivery_mode=DeliveryMode.TRUNCATED, errcode=None)
        case FaultKind.SLOW:
            return evolve(outgoing, delay=fault.seconds)
        case FaultKind.HUGE:
            return evolve(outgoing, delivery_mode=DeliveryMode.PADDED, megabytes=fault.megabytes)
        case FaultKind.HTTP | FaultKind.HTTP_AFTER:
            return _html_response(outgoing, fault.status or 502, "Error")
        case FaultKind.ECHO_PAGE:
            # Quotes stay unescaped, so that a JSON body appears as it was sent.
            page = html.escape(_describe_request(request), quote=False)
            return _html_response(outgoing, fault.status or 502, page)
        case FaultKind.REDIRECT:
            return _html_response(outgoing, fault.status or 307, "Moved", Location=request.url)
        case FaultKind.PLAIN:
            return evolve(outgoing, headers={"Content-Type": "text/plain"})
        case FaultKind.GZIP:
            # mtime=0, so that equal replies give equal bytes: gzip writes the current time by default.
            compressed = gzip.compress(outgoing.body, mtime=0)
            return evolve(outgoing, body=compressed, headers={**_JSON_HEADERS, "Content-Encoding": "gzip"})
        case FaultKind.EMPTY | FaultKind.NOT_OBJECT:
            text = fault.text if fault.kind is FaultKind.NOT_OBJECT else ""
            return evolve(outgoing, body=text.encode(), errcode=None)
        case FaultKind.MISSING:
            document: object = orjson.loads(outgoing.body)
            _remove_path(document, fault.name.split("."))
            return evolve(outgoing, body=orjson.dumps(document))
        case FaultKind.INCOMPLETE_LIST:
            return evolve(outgoing, body=_omit_environments(outgoing.body, fault.envs, fault.newest))
        case _:
            # EXPIRE_TOKEN: the platform's own response reports the expired token.
            return outgoing


def _html_response(outgoing: OutgoingResponse, status: int, message: str, **headers: str) -> OutgoingResponse:
    page = f"<html><head><title>{status}</title></head><body><h1>{message}</h1></body></html>".encode()
    return evolve(outgoing, body=page, status=status, headers={**_HTML_HEADERS, **headers}, errcode=None)


def _describe_request(request: PlatformRequest) -> str:
    return f"{request.method} {request.url} {request.raw_body.decode(errors='replace')}"


def _remove_path(node: object, names: list[str]) -> None:
    """Remove a field; every name but the last may belong to an object or to an array of them."""
    if isinstance(node, list):
        for item in cast("list[object]", node):
            _remove_path(item, names)
    if not isinstance(node, dict):
        return
    parent = cast("dict[str, object]", node)
    if len(names) == 1:
        parent.pop(names[0], None)
    else:
        _remove_path(parent.get(names[0]), names[1:])


def _omit_environments(reply: bytes, envs: Collection[str], newest: int | None) -> bytes:
    """Remove environments from a describeenvs reply: those named, or the newest ones, or all of them."""
    document: dict[str, object] = orjson.loads(reply)
    if "info_list" not in document:
        return reply
    rows = cast("list[dict[str, str]]", document["info_list"])
    # The list is ordered by age, the oldest first.
    count = max(0, len(rows) - newest) if newest else 0
    document["info_list"] = [row for row in rows if row["env"] not in envs] if envs else rows[:count]
    return orjson.dumps(document)
