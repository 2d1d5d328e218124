"""A session and a receiver that start without their token store: an error that names the store, unless permitted."""

from __future__ import annotations

import asyncio
import base64

import pytest

from wxtcb.errors import InvalidArgument, TokenStoreError
from wxtcb.session import Session
from wxtcb.tokens.encrypted import EncryptedStore
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket import TicketReceiver

APPID = "wx0123456789abcdef"
NO_SERVER = "redis://someone:S3CRET@127.0.0.1:1/2"


def new_session(store, **options):
    """Return a session on *store*."""
    return Session(component_appid=APPID, component_appsecret="secret", token_store=store, **options)


def new_receiver(store, **options):
    """Return a receiver on *store*."""
    key = base64.b64encode(b"k" * 32).decode().rstrip("=")
    return TicketReceiver(
        component_appid=APPID, message_token="m" * 32, encoding_aes_key=key, token_store=store, **options
    )


both = pytest.mark.parametrize("new", [new_session, new_receiver])


class DownStore(MemoryStore):
    """A store of a caller that is down."""

    async def load(self, component_appid):
        raise ConnectionError("S3CRET")


async def start(opener):
    """Enter *opener*, and return the error."""
    with pytest.raises(TokenStoreError) as caught:
        async with opener:
            pytest.fail("it started")
    assert "store_required=False" in str(caught.value)
    assert "S3CRET" not in str(caught.value)
    return caught.value


@both
async def test_file_in_a_missing_directory_is_an_error_at_start(new, tmp_path):
    """The message has the path. After the directory was created, the same object starts."""
    opener = new(f"sqlite:///{tmp_path}/shoop/tokens.db")
    error = await start(opener)
    assert f"there is no directory {tmp_path}/shoop for tokens.db" in str(error)
    (tmp_path / "shoop").mkdir()
    async with opener:
        assert (tmp_path / "shoop" / "tokens.db").exists()


@both
async def test_server_that_is_down_is_an_error_at_start(new):
    """The message has its address, without user and password."""
    assert "redis://***@127.0.0.1:1/2 cannot be reached" in str(await start(new(NO_SERVER)))


@both
async def test_store_of_the_caller_that_is_down_is_an_error_at_start(new):
    """The message has the name of its class."""
    assert "DownStore failed (ConnectionError in " in str(await start(new(DownStore())))


@both
async def test_wrong_key_is_an_error_at_start(new):
    """It is permanent."""
    store = MemoryStore()
    await EncryptedStore(store, "o" * 43 + "=").compare_and_set(APPID, "T0KEN", version="")
    assert (await start(new(EncryptedStore(store, "n" * 43 + "=")))).permanent


@both
@pytest.mark.parametrize("store", [NO_SERVER, DownStore()], ids=["url", "object"])
async def test_store_that_is_not_required_may_be_down_at_start(new, store):
    """Then it is tolerated like one that fails later."""
    async with new(store, store_required=False):
        pass


@both
def test_store_required_is_a_bool(new):
    """Another value is an error when the object is created."""
    with pytest.raises(InvalidArgument, match="store_required"):
        new(MemoryStore(), store_required="no")


async def test_lifespan_of_a_receiver_reports_the_store():
    """An ASGI server logs the message, and does not start."""
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    await new_receiver(NO_SERVER)({"type": "lifespan"}, receive, send)
    [message] = sent
    assert message["type"] == "lifespan.startup.failed"
    assert "redis://***@127.0.0.1:1/2 cannot be reached" in message["message"]


async def test_start_that_is_cancelled_closes_the_receiver():
    """A receiver whose store hangs is closed, and answers pushes with 503."""

    class HangingStore(MemoryStore):
        async def load(self, component_appid):
            await asyncio.Event().wait()

    receiver = new_receiver(HangingStore())
    starting = asyncio.create_task(receiver.__aenter__())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (await receiver.handle_push("POST", b"", None)).status == 503
