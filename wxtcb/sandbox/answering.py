"""From a request to the platform's own answer: the checks in their order, then the handler."""

from __future__ import annotations

from typing import Final, cast

import orjson

from wxtcb.sandbox.errors import Refused, refuse
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.request import CREDENTIAL, Answer, Asked, Body
from wxtcb.sandbox.schema import CALLS, Call, Credential
from wxtcb.sandbox.validator import check_action, check_body, check_keys, check_query
from wxtcb.sandbox.world import World

__all__ = ["answer", "refusal"]


def answer(world: World, asked: Asked) -> Answer:
    """Answer a request to a known path as the platform would in good health."""
    try:
        body = _perform(world, asked, CALLS[asked.path])
    except Refused as no:
        return refusal(world, no)
    return Answer(0, body, acted=True)


def refusal(world: World, no: Refused) -> Answer:
    """Word a refusal; the message ends with a request id."""
    said = {"errcode": no.errcode, "errmsg": f"{no.message} rid: {world.rid()}"}
    return Answer(no.errcode, orjson.dumps(said), acted=False)


def _perform(world: World, asked: Asked, call: Call) -> bytes:
    if asked.method != call.method:
        raise refuse(43002)
    check_query(call, asked.query)
    token = asked.query.get(CREDENTIAL)
    if call.credential is Credential.COMPONENT and not (call.authorizer and world.tokens.is_authorizers(token)):
        world.tokens.check_token(token, world.clock())
    world.admit(asked.path)
    return HANDLERS[asked.path](world, _open_body(asked, call))


def _open_body(asked: Asked, call: Call) -> Body:
    """Return what the call holds, query and body together, or refuse what the facts do not allow."""
    if asked.flaw and not (call.raw and asked.flaw == _NO_JSON):
        raise refuse(asked.flaw, "$")
    if call.raw:
        return Body(asked.query, asked.raw)
    check_keys(asked.raw)
    body = cast("dict[str, object]", asked.document)
    check_body(call, body)
    check_action(asked.query, body)
    return Body({**asked.query, **body} if call.query.fields else body)


_NO_JSON: Final = 47001
