"""Random and oversized replies and store documents take neither much time nor much memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings

import wxtcb
from tests._protocol.random_replies import check_reply, replies
from tests.random_json import documents, untyped_parts
from tests.tokens.test_random_documents import SAMPLES
from wxtcb._protocol.limits import LIMITS
from wxtcb.tokens.token_state import TokenState, parse_state

MAX_SECONDS = 1.0
MAX_MEGABYTES = 200
# Reads the replies in the files of a folder. Prints for each its name, the class of the result, the seconds of CPU,
# those of the longest turn of the event loop meanwhile, and by how many megabytes the memory grew at most.
PROGRAM = """
import asyncio, sys, time
from pathlib import Path
import wxtcb
from wxtcb._protocol.codec import read_large_reply

def megabytes(name):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(name))

async def main():
    [endpoint] = [each for each in wxtcb.endpoints() if each.name == sys.argv[1]]
    longest, last, running = 0.0, time.thread_time(), True

    async def watch():
        nonlocal longest, last
        while running:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    for path in sorted(Path(sys.argv[2]).iterdir()):
        data = path.read_bytes()
        await asyncio.sleep(0)
        # Forgets the peak.
        Path("/proc/self/clear_refs").write_text("5")
        longest, before, started = 0.0, megabytes("VmRSS"), time.process_time()
        result = await read_large_reply(endpoint, data)
        seconds = time.process_time() - started
        print(path.name, type(result).__name__, seconds, longest, megabytes("VmHWM") - before, sep=";")
        del result
    running = False
    await watcher

asyncio.run(main())
"""
ENTRIES = {
    "objects": b"{}",
    "arrays": b"[]",
    "numbers": b"1",
    "strings": b'"a"',
    "nulls": b"null",
    "rows": b'{"env":"e"}',
    "long rows": b'{"env":"e","alias":"' + b"a" * 60 + b'"}',
    "rows of nulls": b'{"env":null,"alias":null,"status":null,"create_time":null}',
}
# Replies of at most so many bytes, with a list or a value in a field of the endpoint.
OVERSIZED = {
    "nested": lambda size, _: b'{"a":' + b"[" * (size // 2 - 9) + b"]" * (size // 2 - 9) + b"}",
    "names": lambda size, _: b"{" + b",".join([b'"%09d":1' % n for n in range((size - 30) // 14)]) + b"}",
    "percent": lambda size, _: b'{"errcode":-1,"errmsg":"' + b"%41" * ((size - 30) // 3) + b'"}',
    "control characters": lambda size, _: b'{"errcode":-1,"errmsg":"' + rb"\u001b" * ((size - 30) // 6) + b'"}',
    "tags": lambda size, _: b"<html>" + b"<a>" * ((size - 9) // 3),
    "open tags": lambda size, _: b"<" * size,
    "digits": lambda size, _: b'{"errcode":' + b"9" * (size - 20) + b"}",
    "string": lambda size, field: b'{"%b":"%b"}' % (field, b"a" * (size - 30)),
}


def oversized_replies(size, field):
    """Yield the name and the bytes of each reply."""
    for name, create in OVERSIZED.items():
        yield name, create(size, field)
    for name, entry in ENTRIES.items():
        count = (size - 30) // (len(entry) + 1)
        admitted = LIMITS.reply_values if entry[0] not in b"[{" else LIMITS.reply_containers
        # As many as have room, and as many as are decoded.
        for suffix, entries in (("", count), (", fewer", min(count, admitted - 3) // (entry.count(b",") + 1))):
            yield name + suffix, b'{"%b":[%b]}' % (field, b",".join([entry] * entries))


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
@pytest.mark.parametrize(
    ("endpoint", "field"),
    [
        ("create_env", "env"),
        ("batch_share_env", "err_list"),
        ("describe_envs", "info_list"),
        ("db_record_query", "data"),
    ],
)
def test_oversized_replies(endpoint, field, tmp_path):
    """Replies that are made to be slow or large are read or refused within the limits, in a process of their own."""
    [limit] = [each.max_reply_bytes for each in wxtcb.endpoints() if each.name == endpoint]
    for name, data in oversized_replies(limit, field.encode()):
        assert len(data) <= limit, name
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-c", PROGRAM, endpoint, tmp_path]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    exceeded = []
    for line in lines:
        name, result, *numbers = line.split(";")
        seconds, longest, megabytes = map(float, numbers)
        text = f"{endpoint} {name}: {result}, {seconds:.2f} s of CPU, longest turn {longest:.2f} s, {megabytes:.0f} MB"
        print(text)
        if seconds > MAX_SECONDS or megabytes > MAX_MEGABYTES:
            exceeded.append(text)
    assert len(lines) == len(OVERSIZED) + 2 * len(ENTRIES)
    assert exceeded == []
