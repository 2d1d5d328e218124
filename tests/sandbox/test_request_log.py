"""Limits of the recorded requests."""

from __future__ import annotations

import orjson
import pytest

from wxtcb.sandbox import request_log
from wxtcb.sandbox.request import PlatformRequest, SeenRequest
from wxtcb.sandbox.request_log import FailedRequestLog, SeenLog

from .sandbox_harness import LIST, Harness


def record(log: SeenLog, body: object, url: str = "/x") -> None:
    """Record a request with this body."""
    log.record(PlatformRequest.parse("POST", url, {}, orjson.dumps(body)), 0.0, 0, "answered", acted=True)


def test_large_requests_are_dropped_by_bytes() -> None:
    """300 requests of 391 KB leave at most 32 MiB of them, the newest ones."""
    log = SeenLog()
    for number in range(300):
        record(log, {"number": number, "rows": ["x" * 999] * 400})
    assert sum(len(orjson.dumps(seen.body)) for seen in log.requests) <= 32 << 20
    assert [seen.body["number"] for seen in log.requests] == [*range(300 - len(log.requests), 300)]


def test_truncated_body_counts_as_recorded() -> None:
    """Uploaded code, of which 64 characters are recorded, does not displace other requests."""
    log = SeenLog()
    for _ in range(3):
        record(log, {"code": "x" * (30 << 20)})
    assert [seen.size < 1000 for seen in log.requests] == [True] * 3


def test_urls_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of a request counts like its body."""
    monkeypatch.setattr(request_log, "_MAX_SEEN_BYTES", 2999)
    log = SeenLog()
    for _ in range(5):
        record(log, {}, f"/x?{'y' * 995}")
    assert len(log.requests) == 2


def test_number_of_requests_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small requests are limited by their number."""
    monkeypatch.setattr(request_log, "_MAX_SEEN_REQUESTS", 2)
    log = SeenLog()
    for number in range(3):
        record(log, {"number": number})
    assert [seen.body["number"] for seen in log.requests] == [1, 2]


def test_cleared_requests_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may clear the requests; the limit applies to those recorded since."""
    monkeypatch.setattr(request_log, "_MAX_SEEN_BYTES", 250)
    log = SeenLog()
    for _ in range(2):
        log.requests.clear()
        for _ in range(2):
            log.add(SeenRequest("/x", {}, None, size=100))
    assert len(log.requests) == 2


def test_text_of_failed_requests_is_limited() -> None:
    """Query, body and response of a failed request are truncated to 1024 characters each."""
    log = FailedRequestLog()
    log.record(0, "q" * 9999, b"b" * 9999, b"rid: 1-2-3" + b"r" * 9999)
    failed = log.get("1-2-3", 0)
    assert {len(failed.request_url), len(failed.request_body), len(failed.response_body)} == {1024}


async def test_number_of_counted_paths_is_limited(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a number of paths only known ones are counted, so that random paths use no more memory."""
    monkeypatch.setattr("wxtcb.sandbox.server._MAX_COUNTED_PATHS", 1)
    for path in ("/a", "/b", "/a", LIST):
        async with harness.http.post(path, json={}):
            pass
    assert harness.sandbox.counts == {"/a": 2, LIST: 1}
