"""The sign-up backends of `examples`: requests, transactions, and the end of a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal

import aiohttp
import pytest

from tests.postgres_server import shared_postgres
from wxtcb.sandbox import Sandbox

from .backends import LIMITS, ROOT, Browser, appid, running

CREATE = "/componenttcb/createenv"
REFUSE_COMMIT = (
    "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$",
    "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON customers INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()",
)


@pytest.mark.parametrize("name", ["fastapi", "aiohttp"])
def test_a_backend_has_less_than_100_lines(name: str) -> None:
    """It stays an example that is read at once."""
    assert len((ROOT / "examples" / f"{name}_backend" / "app.py").read_text().splitlines()) < 100


@pytest.mark.parametrize("name", ["fastapi", "aiohttp"])
async def test_a_backend_signs_up_and_reports(name: str, tmp_path) -> None:
    """A customer can sign up again, but not under the name of another one. Row and tenant are stored together.

    A process that is stopped ends the streams of its browsers, and its successor sends them the present status again.
    """
    server = shared_postgres()
    async with (
        Sandbox() as sandbox,
        running(name, sandbox, server, tmp_path, 1) as backends,
        aiohttp.ClientSession(timeout=LIMITS) as http,
    ):

        async def call(method: str, customer: str, email: str = "a@example.com", appid: str = appid(1)) -> object:
            url, body = f"{backends.url()}/customers/{customer}", {"email": email, "appid": appid}
            async with http.request(method, url, json=body if method == "PUT" else None) as response:
                return await response.json() if response.status == 200 else response.status

        def rows(table: str) -> list[tuple]:
            return server.execute(f"SELECT * FROM {table}", database=backends.database)

        browser = Browser(backends, http, "first", appid(1))
        await browser.run()
        assert [end["state"] for end in browser.ends] == ["done"]
        assert [link["appid"] for link in browser.ends[0]["links"]] == [appid(1)]
        assert await call("GET", "first") == browser.ends[0]
        assert await call("PUT", "first", email="first@example.com") == 202
        assert await call("PUT", "first", appid=appid(2)) == 409
        assert await call("GET", "first") == browser.ends[0]
        assert await call("PUT", "second", appid="invalid") == 422
        unknown = [await call("GET", "second"), await call("GET", "second/events"), await call("DELETE", "second")]
        assert unknown == [404, 404, 404]
        # The submission fails, after the row of the customer was inserted.
        server.execute("ALTER TABLE wxtcb_desired RENAME TO hidden", database=backends.database)
        assert await call("PUT", "second") == 500
        server.execute("ALTER TABLE hidden RENAME TO wxtcb_desired", database=backends.database)
        assert [row[0] for row in rows("customers")] == ["first"]
        # The commit fails, after the submission.
        server.execute(*REFUSE_COMMIT, database=backends.database)
        assert await call("PUT", "second") == 500
        server.execute("DROP TRIGGER fail ON customers", database=backends.database)
        assert await call("GET", "second") == 404
        # An exhausted quota lets tenants wait, and their streams stay open.
        sandbox.faults.errcode(45009, path=CREATE)
        assert await call("PUT", "second") == 202
        async with http.get(f"{backends.url()}/customers/second/events") as stream:
            status = await read_event(stream)
            assert (status["tenant"], status["state"]) == ("second", "waiting")
            async with asyncio.timeout(30):
                code = await backends.stop(0)
            # aiohttp ends it without its last chunk.
            with contextlib.suppress(aiohttp.ClientPayloadError):
                assert b"data" not in await stream.content.read()
        assert code in (0, -signal.SIGTERM)
        await backends.start_again(0)
        async with http.get(f"{backends.url()}/customers/second/events") as stream:
            again = await read_event(stream)
            assert (again["tenant"], again["state"]) == ("second", "waiting")
            assert await call("DELETE", "second") == {"cancelled": True}
            while again["state"] == "waiting":
                again = await read_event(stream)
            assert again["state"] == "cancelled"
            assert (await stream.content.read()).strip() == b""
        assert await call("DELETE", "second") == {"cancelled": False}
        await backends.stop(0)
    assert len(sandbox.world.environments) == 1


async def read_event(stream: aiohttp.ClientResponse) -> dict:
    """Return the data of the next event."""
    while not (line := await stream.content.readline()).startswith(b"data: "):
        assert line
    return json.loads(line[6:])
