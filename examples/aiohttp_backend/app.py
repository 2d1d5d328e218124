"""Sign-up backend with aiohttp and asyncpg, which also provisions; see examples/README.md."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from weakref import WeakSet

import asyncpg
from aiohttp import web

from wxtcb import InvalidArgument, Session
from wxtcb.provision import PostgresJournal, Provisioner, ProvisioningClient, Tenant, UnknownTenant

DATABASE_URL = os.environ["DATABASE_URL"]
POOL = web.AppKey("pool", asyncpg.Pool)
CLIENT = web.AppKey("client", ProvisioningClient)
SERVING = web.AppKey("serving", asyncio.Task[None])
STREAMS = web.AppKey("streams", WeakSet[asyncio.Task[object]])


async def run_provisioner(app: web.Application) -> AsyncIterator[None]:
    session, journal = Session.from_env(token_store=DATABASE_URL), PostgresJournal(DATABASE_URL)
    async with asyncpg.create_pool(DATABASE_URL) as pool, journal, session:
        async with pool.acquire() as connection, connection.transaction():
            # Without the lock, two processes that start at the same time could both create it, and one would fail.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('customers'))")
            await connection.execute("CREATE TABLE IF NOT EXISTS customers (name text PRIMARY KEY, email text)")
        async with Provisioner(session, journal=journal) as provisioner:
            app[POOL], app[CLIENT], app[STREAMS] = pool, ProvisioningClient(journal), WeakSet()
            # Every process serves. One of them is elected, and works; if it ends, another one continues.
            app[SERVING] = serving = asyncio.create_task(provisioner.serve())
            # Only an unexpected error ends it earlier. Then this process stops, and its supervisor starts a new one.
            serving.add_done_callback(lambda task: task.cancelled() or signal.raise_signal(signal.SIGTERM))
            yield
            await asyncio.wait([serving])


async def stop(app: web.Application) -> None:
    # Here and not in `run_provisioner`, which aiohttp ends after the last response: those of `events` do not end soon.
    for task in (app[SERVING], *app[STREAMS]):
        task.cancel()


# Add the authentication of your users: each customer gets an environment, which is billed.
async def sign_up(request: web.Request) -> web.Response:
    name, body = request.match_info["name"], await request.json()
    try:
        tenant = Tenant(name, appids=[body["appid"]])
    except InvalidArgument as error:
        raise web.HTTPUnprocessableEntity(text=str(error)) from error
    async with request.app[POOL].acquire() as connection, connection.transaction():
        # The same request may be sent again, such as after a timeout.
        statement = """INSERT INTO customers (name, email) VALUES ($1, $2) ON CONFLICT (name)
            DO UPDATE SET email = excluded.email WHERE customers.email = excluded.email RETURNING name"""
        if await connection.fetchval(statement, name, body["email"]) is None:
            raise web.HTTPConflict(text=f"{name} belongs to another customer")
        # In the same transaction: either both exist, the row and the tenant, or none.
        await request.app[CLIENT].submit([tenant], connection=connection)
    return web.Response(status=202)


async def read_status(request: web.Request) -> web.Response:
    if (status := await request.app[CLIENT].status(request.match_info["name"])) is None:
        raise web.HTTPNotFound
    return web.json_response(text=status.to_json())


async def cancel(request: web.Request) -> web.Response:
    try:
        return web.json_response({"cancelled": await request.app[CLIENT].cancel(request.match_info["name"])})
    except UnknownTenant as error:
        raise web.HTTPNotFound from error


async def events(request: web.Request) -> web.StreamResponse:
    # It raises 404, which is not possible once the response has begun.
    await read_status(request)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    # If `stop` cancels this, the browser connects again, to another process.
    request.app[STREAMS].add(asyncio.current_task())
    async for status in request.app[CLIENT].follow(request.match_info["name"]):
        await response.write(f"data: {status.to_json()}\n\n".encode())
    return response


app = web.Application()
app.cleanup_ctx.append(run_provisioner)
app.on_shutdown.append(stop)
app.router.add_put("/customers/{name}", sign_up)
app.router.add_get("/customers/{name}", read_status)
app.router.add_delete("/customers/{name}", cancel)
app.router.add_get("/customers/{name}/events", events)

if __name__ == "__main__":
    # With cancellation, `events` ends when its client is gone. With `reuse_port`, several processes share the port.
    port = int(os.environ.get("PORT", "8000"))
    web.run_app(app, host="127.0.0.1", port=port, reuse_port=True, handler_cancellation=True)
