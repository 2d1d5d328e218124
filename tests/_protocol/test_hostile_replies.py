"""Replies that are changed at random: they become a typed reply or an error of wxtcb, and nothing else."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

import wxtcb
from wxtcb._protocol.codec import read_large_reply, read_reply
from wxtcb.secret import Secret

SAMPLES = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "samples").glob("*.json"))
]
REPLIES = {sample["path"]: sample["reply"] for sample in SAMPLES}
ODD_VALUES = [
    *(None, 0, -1, 1e9, True, "", "x", "x" * 5000, "\x9b\u202e", "%41" * 50, 2**70),
    *([], {}, [None], [[], []], {"env": 5}, -504002, 40001, 9300999),
]
ERRCODES = [0, -1, 40097, 40001, 9300999, -501000, "0", None, True, 1.5, []]
# No secret is a part of a sample.
SECRETS = tuple(Secret(f"QZ{number}-" + "hunter2" * number) for number in range(1, 5))


def changed(value, chance):
    """Return *value* with some of its parts replaced, renamed, repeated or left out."""
    if chance.random() < 0.08:
        return chance.choice(ODD_VALUES)
    if isinstance(value, dict):
        names = ((name if chance.random() > 0.03 else f"{name}x", each) for name, each in value.items())
        return {name: changed(each, chance) for name, each in names if chance.random() > 0.04}
    if isinstance(value, list):
        return [changed(each, chance) for each in value] * chance.choice([0, 1, 1, 3])
    return value


def hostile_reply(sample, chance):
    """Return the bytes of a changed reply, which may repeat a secret and may be cut off."""
    reply = changed(sample, chance)
    if isinstance(reply, dict) and chance.random() < 0.3:
        secret = chance.choice(SECRETS).reveal()
        reply |= {"errcode": chance.choice(ERRCODES), "errmsg": f"bad {secret[:20]} {secret} rid: 5f-1\r\n\x1b[2J"}
    data = json.dumps(reply).encode()
    return data[: chance.randrange(len(data) + 1)] if chance.random() < 0.05 else data


@pytest.mark.parametrize("seed", range(4))
def test_changed_reply_is_a_typed_reply_or_an_error(seed):
    """No other exception is raised, no error shows a secret, and no message has control characters."""
    chance = random.Random(seed)
    endpoints = [endpoint for endpoint in wxtcb.endpoints() if endpoint.path in REPLIES]
    for _ in range(1000):
        endpoint = chance.choice(endpoints)
        data = hostile_reply(REPLIES[endpoint.path], chance)
        outcome = read_reply(endpoint, data, SECRETS)
        assert isinstance(outcome, (wxtcb.Reply, wxtcb.ApiError, wxtcb.BadReply))
        in_slices = asyncio.run(read_large_reply(endpoint, data, SECRETS))
        assert (type(in_slices), str(in_slices)) == (type(outcome), str(outcome))
        if isinstance(outcome, wxtcb.WxtcbError):
            shown = f"{outcome} {getattr(outcome, 'reply', None)!r}"
            assert shown.isprintable()
            assert not any(secret.reveal()[:12] in shown for secret in SECRETS)
