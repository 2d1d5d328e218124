"""The backend of README.md with aiohttp: python examples/backend_aiohttp.py, or gunicorn for several workers."""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

import wxtcb
from wxtcb.api import environment
from wxtcb.tokens.ticket import TicketReceiver

PLATFORM = web.AppKey("platform", wxtcb.Session)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

if not (backend_key := os.environ.get("BACKEND_KEY", "")):
    raise RuntimeError("BACKEND_KEY is not set: clients must send it as Authorization: Bearer KEY")
receiver = TicketReceiver.from_env()


async def platform(app: web.Application) -> AsyncIterator[None]:
    async with receiver, wxtcb.Session.from_env() as session:
        app[PLATFORM] = session
        yield


@web.middleware
async def check_and_explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    # Pushes are signed. Each environment is billed: replace this by the authentication of your users.
    sent, expected = request.headers.get("Authorization", ""), f"Bearer {backend_key}"
    if request.path != "/wechat/push" and not secrets.compare_digest(sent.encode(), expected.encode()):
        raise web.HTTPUnauthorized
    try:
        return await handler(request)
    except wxtcb.InvalidArgument as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    except wxtcb.WxtcbError as error:
        # The message is for the operator: clients get a number by which it is found in the log.
        reference = secrets.token_hex(4)
        logging.error("reference %s: %s", reference, error)
        text = f"{error.endpoint or 'the platform'} failed, reference {reference}"
        raise web.HTTPBadGateway(text=text) from error


async def open_environment(request: web.Request) -> web.Response:
    try:
        async with asyncio.timeout(20):
            found = await environment.ensure_env(request.app[PLATFORM], alias=request.match_info["alias"])
    except (wxtcb.OutcomeUnknown, TimeoutError) as error:
        raise web.HTTPGatewayTimeout(text="check GET /environments before you try again") from error
    return web.json_response({"env": found.env, "created": found.created})


async def list_environments(request: web.Request) -> web.Response:
    try:
        async with asyncio.timeout(20):
            listed = await environment.describe_envs(request.app[PLATFORM])
    except TimeoutError as error:
        raise web.HTTPGatewayTimeout(text="no reply in time") from error
    return web.json_response([{"env": each.env, "status": each.status} for each in listed.info_list])


app = web.Application(middlewares=[check_and_explain])
app.cleanup_ctx.append(platform)
app.router.add_post("/wechat/push", receiver.handle)
app.router.add_put("/environments/{alias}", open_environment)
app.router.add_get("/environments", list_environments)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=8000)
