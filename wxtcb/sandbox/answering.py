"""From a request to the platform's own answer: the checks in their order, then the handler."""

from __future__ import annotations

from typing import cast

import orjson

from wxtcb.sandbox.asked import CREDENTIAL, Answer, Asked, Body
from wxtcb.sandbox.handlers import HANDLERS
from wxtcb.sandbox.refusal import Refused, refuse
from wxtcb.sandbox.schema import CALLS, Call, Credential
from wxtcb.sandbox.validator import check_body, check_keys, check_query
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
    if call.credential is Credential.COMPONENT:
        world.tokens.check_token(asked.query.get(CREDENTIAL), world.clock())
    world.admit(asked.path)
    if asked.flaw:
        raise refuse(asked.flaw, "$")
    check_keys(asked.raw)
    body = cast("dict[str, object]", asked.document)
    check_body(call, body)
    return HANDLERS[asked.path](world, Body({**asked.query, **body} if call.query.fields else body))
