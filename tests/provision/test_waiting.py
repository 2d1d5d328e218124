"""Waiting for NORMAL, and for the next send, in virtual time."""

from __future__ import annotations

import pytest

from wxtcb.errors import EnvironmentGone
from wxtcb.provision import Outcome, Provisioner, Step, StepDone, Tenant

from .places import API, CREATE, ESTABLISH, LIST

pytestmark = pytest.mark.virtual_time

ROW = {"env": "e1", "alias": "x", "create_time": "", "update_time": ""}


def listed(*statuses: str) -> dict[str, object]:
    """Return a list that holds environment e1 in a status, or nothing."""
    return {"errcode": 0, "info_list": [{**ROW, "status": status} for status in statuses]}


async def test_an_environment_that_vanishes_fails_before_its_time(new_session, wechat) -> None:
    """Missing from looks over 30 seconds it is gone, and nobody waits for the rest of the 600."""
    wechat.usual[CREATE] = {"errcode": 0, "env": "e1", "tranid": "t"}
    wechat.play(LIST, listed(), listed("UNAVAILABLE"))
    wechat.usual[LIST] = listed()
    async with new_session(base_url="http://127.0.0.1:1") as session, Provisioner(session) as provisioner:
        report = await provisioner.apply([Tenant("a", alias="x")]).wait()
    entry = report.tenants[0]
    assert (entry.outcome, entry.env) == (Outcome.FAILED, "e1")
    assert isinstance(entry.problems[0].error, EnvironmentGone)
    assert entry.problems[0].error.status == "UNAVAILABLE"
    assert 30 < report.elapsed < 60


async def test_a_cancel_before_a_service_is_sent_again_leaves_it_unknown(new_session, wechat, settle) -> None:
    """Its first send had no clear answer, and there is no second one."""
    wechat.usual[CREATE] = {"errcode": 0, "env": "e1", "tranid": "t"}
    wechat.play(LIST, listed())
    wechat.usual[LIST] = listed("NORMAL")
    wechat.usual[ESTABLISH] = -1000
    async with new_session(base_url="http://127.0.0.1:1") as session, Provisioner(session) as provisioner:
        run = provisioner.apply([Tenant("a", alias="x", services=[API])])
        async for event in run.events():
            if isinstance(event, StepDone) and event.step is Step.NORMAL:
                break
        await settle()
        assert len(wechat.sent_to(ESTABLISH)) == 1
        await run.cancel(grace=0)
    assert (run.report.tenants[0].outcome, len(wechat.sent_to(ESTABLISH))) == (Outcome.UNKNOWN, 1)
