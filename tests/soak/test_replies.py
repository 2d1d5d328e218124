"""Random and oversized replies and store documents take neither much time nor much memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests._protocol.random_replies import check_reply, replies
from tests.random_json import documents, untyped_parts
from tests.tokens.test_random_documents import SAMPLES
from wxtcb.tokens.token_state import TokenState, parse_state

MAX_SECONDS = 1.0
MAX_MEGABYTES = 200
# Prints the class of the result of a reply, the seconds of CPU, those of the longest turn of the event loop meanwhile,
# and the peak of memory in megabytes. The reply is an expression.
PROGRAM = """
import asyncio, sys, time
import wxtcb
from wxtcb._protocol.codec import read_large_reply

async def main():
    [endpoint] = [each for each in wxtcb.endpoints() if each.name == sys.argv[1]]
    data = eval(sys.argv[2], {"limit": endpoint.max_reply_bytes})
    assert endpoint.max_reply_bytes - 100 < len(data) <= endpoint.max_reply_bytes, len(data)
    longest, last, running = 0.0, time.thread_time(), True

    async def watch():
        nonlocal longest, last
        while running:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    started = time.process_time()
    result = await read_large_reply(endpoint, data)
    seconds, running = time.process_time() - started, False
    await watcher
    print(type(result).__name__, seconds, longest)

asyncio.run(main())
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
# Each expression is a reply of the size that `limit` allows.
LISTS = {
    "objects": b"{}",
    "arrays": b"[]",
    "numbers": b"1",
    "strings": b'"a"',
    "nulls": b"null",
    "rows": b'{"env":"e"}',
}
OVERSIZED = {
    name: f"b'{{\"info_list\":[' + {entry + b','!r} * ((limit - 30) // {len(entry) + 1}) + {entry!r} + b']}}'"
    for name, entry in LISTS.items()
} | {
    "nested": 'b\'{"a":\' + b"[" * (limit // 2 - 9) + b"]" * (limit // 2 - 9) + b"}"',
    "names": 'b"{" + b",".join([b\'"%09d":1\' % n for n in range((limit - 30) // 14)]) + b"}"',
    "percent": 'b\'{"errcode":-1,"errmsg":"\' + b"%41" * ((limit - 30) // 3) + b\'"}\'',
    "control characters": 'b\'{"errcode":-1,"errmsg":"\' + b"\\\\u001b" * ((limit - 30) // 6) + b\'"}\'',
    "tags": 'b"<html>" + b"<a>" * ((limit - 9) // 3)',
    "open tags": 'b"<" * limit',
    "digits": 'b\'{"errcode":\' + b"9" * (limit - 20) + b"}"',
    "string": 'b\'{"info_list":"\' + b"a" * (limit - 20) + b\'"}\'',
}


def test_ten_thousand_random_replies(scale):
    """Each becomes a typed reply or an error of wxtcb, in less than a second of CPU."""
    results, slowest = Counter(), 0.0

    @settings(max_examples=round(10_000 * scale))
    @given(replies())
    def check(reply):
        nonlocal slowest
        started = time.process_time()
        results[check_reply(*reply)] += 1
        slowest = max(slowest, time.process_time() - started)

    check()
    print(f"{dict(results)}, slowest {slowest:.3f} s of CPU")
    assert slowest < MAX_SECONDS


def test_ten_thousand_random_store_documents(scale):
    """Each becomes a typed state or None, in less than a second of CPU."""
    read, slowest = Counter(), 0.0

    @settings(max_examples=round(10_000 * scale))
    @given(documents(SAMPLES))
    def check(document):
        nonlocal slowest
        started = time.process_time()
        state = parse_state(document.decode(errors="replace"))
        slowest = max(slowest, time.process_time() - started)
        read[state is not None] += 1
        assert state is None or untyped_parts(state, TokenState) == []

    check()
    print(f"{read[True]} readable, {read[False]} not, slowest {slowest:.3f} s of CPU")
    assert slowest < MAX_SECONDS


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak memory of a process")
@pytest.mark.parametrize("endpoint", ["create_env", "describe_envs", "db_record_query"])
def test_oversized_replies(endpoint):
    """Replies that are made to be slow or large are read or refused within the limits, in a process of their own."""
    exceeded = []
    for name, expression in OVERSIZED.items():
        command = [sys.executable, "-c", PROGRAM, endpoint, expression]
        output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        result, seconds, longest, megabytes = output.split()
        line = f"{endpoint}, {name}: {result}, {float(seconds):.2f} s of CPU, longest turn {float(longest):.2f} s, "
        line += f"{float(megabytes):.0f} MB"
        print(line)
        if float(seconds) > MAX_SECONDS or float(megabytes) > MAX_MEGABYTES:
            exceeded.append(line)
    assert exceeded == []
