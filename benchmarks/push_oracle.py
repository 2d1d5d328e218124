"""Answers of the ticket receiver to altered pushes, and their times, which must not reveal why a push is rejected.

A sender who knows the message token, but not the EncodingAESKey, can sign any push. If the answer, or its time,
depended on why a push cannot be decrypted, the sender could decrypt captured pushes and encrypt new ones (a padding
oracle). So 20,000 altered pushes must get one answer, and the times of all kinds of them must have one distribution:
the two-sample tests of Kolmogorov-Smirnov and Mann-Whitney must not distinguish them at p = 0.01, which is divided
among the tests of a run (Bonferroni). The control compares a kind with itself.

The time is measured in the process of the receiver, which is far more precise than over a network. `--smoke` checks in
seconds that the script works; its p-values say nothing. Exits with 1 if two kinds can be distinguished.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import logging
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlencode

from wxtcb.sandbox.push.crypto import encrypt
from wxtcb.tokens.stores import MemoryStore
from wxtcb.tokens.ticket import TicketReceiver

APPID: Final = "wxb11529c136998cb6"
TOKEN: Final = "bench0message0token0000000000000"
KEY: Final = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
MESSAGE: Final = b"<xml><InfoType>component_verify_ticket</InfoType><CreateTime>1</CreateTime></xml>"
# The size of the plaintext: all pushes are equally long.
SIZE: Final = 192
PUSHES: Final = 20_000
P: Final = 0.01

Push = tuple[bytes, bytes]


def content(tail: bytes, length: int | None = None) -> bytes:
    """Return a plaintext whose end is *tail*, with the length of what stands before it, or another *length*."""
    size = SIZE - 20 - len(tail)
    return random.randbytes(16) + (size if length is None else length).to_bytes(4, "big") + MESSAGE.ljust(size) + tail


def bad_padding() -> bytes:
    """Return a plaintext whose last bytes are no padding, as almost every push of the attack has."""
    return content(APPID.encode() + bytes([1, 2, 3, random.choice([0, *range(33, 256)])]))


def good_padding() -> bytes:
    """Return a plaintext with valid padding after something else than the appid: the hit of the attack."""
    size = random.randint(1, 32)
    return content(random.randbytes(18) + bytes([size]) * size)


def bad_length() -> bytes:
    """Return a plaintext in which only the length is wrong."""
    size = random.randint(1, 32)
    return content(APPID.encode() + bytes([size]) * size, random.getrandbits(32) | 1024)


def other_appid() -> bytes:
    """Return a plaintext for another platform, whose appid differs in its last character."""
    size = random.randint(1, 32)
    return content(APPID[:-1].encode() + b"7" + bytes([size]) * size)


KINDS: Final[dict[str, Callable[[], bytes]]] = {
    "bad padding": bad_padding,
    "bad padding, again": bad_padding,
    "good padding": good_padding,
    "bad length": bad_length,
    "other appid": other_appid,
}


def sign(plaintext: bytes, number: int) -> Push:
    """Return query and body of a signed push."""
    encrypted, timestamp, nonce = encrypt(plaintext, KEY), str(int(time.time())), f"{number:010}"
    signature = hashlib.sha1("".join(sorted([TOKEN, timestamp, nonce, encrypted])).encode()).hexdigest()
    query = urlencode({"timestamp": timestamp, "nonce": nonce, "msg_signature": signature}).encode()
    return query, f"<xml><Encrypt>{encrypted}</Encrypt></xml>".encode()


async def send(receiver: TicketReceiver, push: Push) -> tuple[str, int]:
    """Return the answer to a push, and its time in nanoseconds."""
    query, body = push
    chunks: list[bytes | None] = [None, body]

    async def read_chunk() -> bytes | None:
        return chunks.pop()

    started = time.perf_counter_ns()
    refusal = await receiver.handle_push("POST", query, read_chunk)
    elapsed = time.perf_counter_ns() - started
    return ("200 success" if refusal is None else f"{refusal.status} {refusal.reason}"), elapsed


def kolmogorov_smirnov(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test, in its asymptotic form."""
    merged = sorted([(value, 1 / len(first)) for value in first] + [(value, -1 / len(second)) for value in second])
    distance = height = 0.0
    for index, (value, step) in enumerate(merged):
        height += step
        # Equal values are one step.
        if index + 1 == len(merged) or merged[index + 1][0] != value:
            distance = max(distance, abs(height))
    scaled = distance * math.sqrt(len(first) * len(second) / (len(first) + len(second)))
    if scaled < 0.2:
        return 1.0
    terms = (2 * (-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))
    return min(1.0, max(0.0, sum(terms)))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of the Mann-Whitney test, by the normal approximation with ties."""
    merged = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    total, ranks, ties, index = len(merged), 0.0, 0.0, 0
    while index < total:
        end = index
        while end < total and merged[end][0] == merged[index][0]:
            end += 1
        count = end - index
        ranks += sum(1 for _, sample in merged[index:end] if sample == 0) * (index + 1 + end) / 2
        ties += count**3 - count
        index = end
    n, m = len(first), len(second)
    u = ranks - n * (n + 1) / 2
    deviation = math.sqrt(n * m / 12 * (total + 1 - ties / (total * (total - 1))))
    return math.erfc(abs(u - n * m / 2) / deviation / math.sqrt(2))


async def measure(pushes: int) -> bool:
    """Send the pushes in random order; print the answers and the tests; return whether nothing is distinguishable."""
    logging.getLogger("wxtcb").addHandler(logging.NullHandler())
    answers: set[str] = set()
    times: dict[str, list[float]] = {name: [] for name in KINDS}
    receiver = TicketReceiver(
        component_appid=APPID, message_token=TOKEN, encoding_aes_key=KEY, token_store=MemoryStore()
    )
    async with receiver:
        order = [name for name in KINDS for _ in range(pushes // len(KINDS))]
        random.shuffle(order)
        gc.collect()
        gc.disable()
        for number, name in enumerate(order):
            push = sign(KINDS[name](), number)
            # Twice, and the second time counts: the first one fills the caches of the processor again.
            await send(receiver, push)
            answer, elapsed = await send(receiver, push)
            answers.add(answer)
            times[name].append(elapsed / 1000)
    print(f"{len(order):,} altered pushes, answers: {sorted(answers)}")
    reference = times["bad padding"]
    indistinguishable = len(answers) == 1
    print(f"{'kind':20} {'median':>10} {'KS p':>8} {'MW p':>8}   compared with bad padding")
    for name, sample in times.items():
        p_values = kolmogorov_smirnov(reference, sample), mann_whitney(reference, sample)
        if name != "bad padding":
            indistinguishable = indistinguishable and min(p_values) > P / (2 * (len(KINDS) - 1))
        print(f"{name:20} {statistics.median(sample):7.2f} us {p_values[0]:8.3f} {p_values[1]:8.3f}")
    return indistinguishable


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="see in seconds that it works")
    smoke = parser.parse_args().smoke
    indistinguishable = asyncio.run(measure(500 if smoke else PUSHES))
    return 0 if smoke or indistinguishable else 1


if __name__ == "__main__":
    raise SystemExit(main())
