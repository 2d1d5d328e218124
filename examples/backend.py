import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

import wxtcb
from wxtcb.api import environment
from wxtcb.tokens.ticket import TicketReceiver

if not (backend_key := os.environ.get("BACKEND_KEY", "")):
    raise RuntimeError("BACKEND_KEY is not set: clients must send it as Authorization: Bearer KEY")
receiver = TicketReceiver.from_env()


class State(TypedDict):
    platform: wxtcb.Session


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    async with receiver, wxtcb.Session.from_env() as session:
        yield {"platform": session}


def platform(request: Request) -> wxtcb.Session:
    session: wxtcb.Session = request.state.platform
    return session


def check_key(sent: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
    # Each environment is billed: replace this by the authentication of your users.
    if not secrets.compare_digest(sent.credentials.encode(), backend_key.encode()):
        raise HTTPException(401, "wrong key")


Platform = Annotated[wxtcb.Session, Depends(platform)]
app = FastAPI(lifespan=lifespan)
app.add_route("/wechat/push", receiver)


@app.exception_handler(wxtcb.WxtcbError)
async def explain(request: Request, error: wxtcb.WxtcbError) -> JSONResponse:
    if isinstance(error, wxtcb.InvalidArgument):
        return JSONResponse({"detail": str(error)}, 422)
    # The message is for the operator: clients get a number by which it is found in the log.
    reference = secrets.token_hex(4)
    logging.error("reference %s: %s", reference, error)
    return JSONResponse({"detail": f"{error.endpoint or 'the platform'} failed, reference {reference}"}, 502)


@app.put("/environments/{alias}", dependencies=[Depends(check_key)])
async def open_environment(alias: str, session: Platform) -> dict[str, str | bool]:
    try:
        async with asyncio.timeout(20):
            found = await environment.ensure_env(session, alias=alias)
    except (wxtcb.OutcomeUnknown, TimeoutError) as error:
        raise HTTPException(504, "check GET /environments before you try again") from error
    return {"env": found.env, "created": found.created}


@app.get("/environments", dependencies=[Depends(check_key)])
async def list_environments(session: Platform) -> list[dict[str, str]]:
    try:
        async with asyncio.timeout(20):
            listed = await environment.describe_envs(session)
    except TimeoutError as error:
        raise HTTPException(504, "no reply in time") from error
    return [{"env": each.env, "status": each.status} for each in listed.info_list]
