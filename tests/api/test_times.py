"""Times of replies with their time zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from wxtcb.api import cloudrun, containers, environment, functions
from wxtcb.api._times import parse_time

CHINA = timezone(timedelta(hours=8))
TIMES = ("2026-12-01 00:01:13", "2026-12-02 10:20:30")


def test_time_is_china_standard_time() -> None:
    """The text has no time zone; the result has one."""
    assert parse_time(TIMES[0]) == datetime(2026, 12, 1, 0, 1, 13, tzinfo=CHINA)
    assert parse_time(TIMES[0]).isoformat() == "2026-12-01T00:01:13+08:00"


@pytest.mark.parametrize("text", [None, "", "0000-00-00 00:00:00", "2026-12-01", "1635156704"])
def test_text_that_is_no_time_is_none(text: str | None) -> None:
    """The text itself remains available, so this is no error."""
    assert parse_time(text) is None


def test_entries_have_both_times() -> None:
    """They are properties next to the text of the platform."""
    create = dict(zip(("create_time", "update_time"), TIMES, strict=True))
    created = dict(zip(("created_time", "updated_time"), TIMES, strict=True))
    entries = [
        environment.EnvInfo(env="e", alias="a", status="NORMAL", **create),
        functions.Function(function_name="f", runtime="r", status="Active", add_time=TIMES[0], mod_time=TIMES[1]),
        cloudrun.CloudRunEnvInfo(env_id="e", **create),
        *(
            kind(**created)
            for kind in (containers.ContainerService, containers.CsVersionInfo, containers.CsVersionDetail)
        ),
    ]
    for entry in entries:
        assert (entry.created_at, entry.updated_at) == tuple(map(parse_time, TIMES))
    assert cloudrun.CustomLogService(create_time=TIMES[0]).created_at == parse_time(TIMES[0])
