"""From a request to the platform's own answer: the checks in their order, then the handler."""

from __future__ import annotations

from typing import Final, cast

import orjson

from wxtcb.sandbox.errors import PlatformError, platform_error
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.request import TOKEN_PARAM, Body, PlatformRequest, PlatformResponse
from wxtcb.sandbox.schema import ENDPOINT_SCHEMAS, Credential, EndpointSchema
from wxtcb.sandbox.validator import check_action_matches, check_body, check_duplicate_keys, check_query
from wxtcb.sandbox.world import World

__all__ = ["error_response", "handle_request"]


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
