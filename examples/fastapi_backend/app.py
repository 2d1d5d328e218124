"""Sign-up backend with FastAPI and SQLAlchemy, which also provisions; see examples/README.md."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, Depends, FastAPI, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from wxtcb import InvalidArgument, Session
from wxtcb.provision import PostgresJournal, Provisioner, ProvisioningClient, Tenant, TenantStatus

DATABASE_URL = os.environ["DATABASE_URL"]
engine = create_async_engine(make_url(DATABASE_URL).set(drivername="postgresql+psycopg"), pool_pre_ping=True)
journal = PostgresJournal(DATABASE_URL)
client = ProvisioningClient(journal)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        # Without the lock, two processes that start at the same time could both create the table, and one would fail.
        await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('customers'))"))
        await connection.execute(text("CREATE TABLE IF NOT EXISTS customers (name text PRIMARY KEY, email text)"))
    session, loop = Session.from_env(token_store=DATABASE_URL), asyncio.get_running_loop()
    app.state.stopping = stopping = loop.create_future()
    async with journal, session, Provisioner(session, journal=journal) as provisioner:
        # Every process serves. One of them is elected, and works; if it ends, another one continues.
        serving = asyncio.create_task(provisioner.serve())
        # Only an unexpected error ends it earlier. Then this process stops, and its supervisor starts a new one.
        serving.add_done_callback(lambda task: task.cancelled() or signal.raise_signal(signal.SIGTERM))
        stopping.add_done_callback(lambda _: serving.cancel())

        # uvicorn ends `lifespan` after the last response only, and the responses of `events` do not end soon.
        def stop(number: int, frame: object) -> None:
            loop.call_soon_threadsafe(stopping.cancel)
            uvicorn_handlers[number](number, frame)

        uvicorn_handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
        stopping.cancel()
        await asyncio.wait([serving])
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


# Add the authentication of your users: each customer gets an environment, which is billed.
@app.put("/customers/{name}", status_code=202)
async def sign_up(name: str, email: Annotated[str, Body()], appid: Annotated[str, Body()]) -> None:
    try:
        tenant = Tenant(name, appids=[appid])
    except InvalidArgument as error:
        raise HTTPException(422, str(error)) from error
    async with engine.begin() as connection:
        # The same request may be sent again, such as after a timeout.
        statement = """INSERT INTO customers (name, email) VALUES (:name, :email) ON CONFLICT (name)
            DO UPDATE SET email = excluded.email WHERE customers.email = excluded.email RETURNING name"""
        if not (await connection.execute(text(statement), {"name": name, "email": email})).all():
            raise HTTPException(409, f"{name} belongs to another customer")
        # In the same transaction: either both exist, the row and the tenant, or none.
        await client.submit([tenant], connection=connection)


async def find(name: str) -> TenantStatus:
    if (status := await client.status(name)) is None:
        raise HTTPException(404, f"{name} has not signed up")
    return status


@app.get("/customers/{name}")
async def read_status(status: Annotated[TenantStatus, Depends(find)]) -> dict[str, object]:
    return status.to_dict()


@app.delete("/customers/{name}")
async def cancel(status: Annotated[TenantStatus, Depends(find)]) -> dict[str, bool]:
    return {"cancelled": await client.cancel(status.tenant)}


@app.get("/customers/{name}/events", response_class=EventSourceResponse)
async def events(status: Annotated[TenantStatus, Depends(find)]) -> AsyncIterator[ServerSentEvent]:
    statuses, stopping = client.follow(status.tenant), app.state.stopping
    try:
        while True:
            following = asyncio.ensure_future(anext(statuses, None))
            await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
            # If a stream ends before the last status, the browser connects again, to another process.
            if stopping.done() or (status := following.result()) is None:
                return
            yield ServerSentEvent(raw_data=status.to_json())
    finally:
        following.cancel()
