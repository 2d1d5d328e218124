"""Pushes of attackers: altered and arbitrary ones have no effect, and their answers say nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections import Counter
from urllib.parse import urlencode

import orjson
from hypothesis import given, settings, strategies as st

from wxtcb.events import PushMalformed, PushRefused, PushUndecryptable, TicketReceived
from wxtcb.sandbox.push.crypto import encrypt, pad_message
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket import Notification, TicketReceiver

APPID = "wxb11529c136998cb6"
TOKEN = "soak0message0token00000000000000"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
PLAIN_KEY = "soak-plain_push-key-0123456789abcdef"
TICKET = (
    f"<xml><AppId><![CDATA[{APPID}]]></AppId><CreateTime>1413192605</CreateTime>"
    "<InfoType><![CDATA[component_verify_ticket]]></InfoType>"
    "<ComponentVerifyTicket><![CDATA[ticket@@@abc]]></ComponentVerifyTicket></xml>"
)
NOW = 1413192605


def new_receiver(**options):
    return TicketReceiver(
        component_appid=APPID,
        message_token=TOKEN,
        encoding_aes_key=KEY,
        token_store=MemoryStore(),
        clock=lambda: NOW,
        plain_push_key=PLAIN_KEY,
        **options,
    )


def signed(encrypted, nonce="n"):
    """Return query and body of a push with a valid signature."""
    parts = sorted([TOKEN.encode(), str(NOW).encode(), nonce.encode(), encrypted])
    query = {"timestamp": NOW, "nonce": nonce, "msg_signature": hashlib.sha1(b"".join(parts)).hexdigest()}
    return urlencode(query).encode(), b"<xml><Encrypt>%b</Encrypt></xml>" % encrypted


def encrypted(message):
    """Return a message in its encrypted form."""
    return encrypt(pad_message(message, APPID, b"a" * 16), KEY).encode()


async def send(receiver, query, body, path=""):
    """Return None for success, or the refusal."""
    chunks = [None, body]

    async def read_chunk():
        return chunks.pop()

    return await receiver.handle_push("POST", query, read_chunk, path=path)


async def test_altered_pushes_get_one_answer(scale):
    """A sender who knows the message token, but not the key, gets `success` 20,000 times, and changes nothing."""
    events = []
    captured = base64.b64decode(encrypted(TICKET.encode()))
    blocks = [captured[at : at + 16] for at in range(0, len(captured), 16)]
    async with new_receiver(hooks=[events.append]) as receiver:
        for number in range(int(20_000 * scale)):
            altered = bytearray(captured)
            altered[random.randrange(len(altered))] ^= random.randrange(1, 256)
            if number % 2:
                altered = random.randbytes(15) + bytes([number // 2 % 256]) + random.choice(blocks)
            assert await send(receiver, *signed(base64.b64encode(altered), str(number))) is None
        assert await receiver.newest_ticket() is None
    counts = Counter(type(event) for event in events)
    print({kind.__name__: count for kind, count in counts.items()})
    assert counts.keys() == {PushUndecryptable, PushMalformed}


@st.composite
def mutated(draw, original):
    """Return *original* with some bytes replaced, added or removed."""
    result = bytearray(original)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(result)))
        result[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(result)


PLAIN_TICKET = orjson.dumps(
    {"AppId": APPID, "CreateTime": NOW, "InfoType": "component_verify_ticket", "ComponentVerifyTicket": "ticket@@@1"}
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9),
    lambda children: st.lists(children, max_size=9) | st.dictionaries(st.text(max_size=9), children, max_size=9),
)
pieces = st.text() | st.sampled_from(["<a>", "</a>", "<xml>", "</xml>", "&", "<![CDATA[", "]]>", "<!DOCTYPE", TICKET])
documents = st.lists(pieces, max_size=20).map(lambda texts: "".join(texts).encode("utf-8", "replace"))
pushes = st.one_of(
    st.tuples(st.binary(), st.binary() | documents, st.just("")),
    st.builds(lambda query, body: (query, body, ""), mutated(signed(encrypted(TICKET.encode()))[0]), documents),
    st.builds(lambda text: (*signed(encrypted(text)), ""), mutated(TICKET.encode()) | documents),
    st.builds(lambda content: (*signed(base64.b64encode(content)), ""), st.binary(max_size=200)),
    st.builds(
        lambda body: (b"", body, f"/push/{PLAIN_KEY}"),
        json_values.map(orjson.dumps) | st.binary() | mutated(PLAIN_TICKET),
    ),
)


def test_any_push_is_accepted_or_refused(scale):
    """Random and mutated pushes, encrypted or not, have one of the documented results, and raise nothing."""
    results, slowest = Counter(), 0.0

    async def collect(notification):
        assert isinstance(notification, Notification)

    with asyncio.Runner() as runner:
        loop_errors = []
        runner.get_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
        events = []
        receiver = new_receiver(on_notification=collect, hooks=[events.append])

        @settings(max_examples=int(10_000 * scale), database=None)
        @given(pushes)
        def check(push):
            nonlocal slowest
            started = time.perf_counter()
            refusal = runner.run(send(receiver, *push))
            slowest = max(slowest, time.perf_counter() - started)
            assert refusal is None or (isinstance(refusal, PushRefused) and refusal.status in (400, 403))
            for event in events:
                assert isinstance(event, TicketReceived | PushMalformed | PushUndecryptable | PushRefused)
                results[type(event).__name__] += 1
            events.clear()

        check()
        runner.run(receiver.aclose())
    print(f"{dict(results)}, slowest {slowest * 1000:.1f} ms")
    assert not loop_errors
