"""What a provisioner accepts."""

from __future__ import annotations

import pytest

import wxtcb
from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.provision import MemoryJournal, Provisioner, Tenant
from wxtcb.sandbox import Sandbox

from .conftest import Rig, Rigging, connect

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("concurrency", 0),
        ("timeout", 0),
        ("interval", -1),
        ("grace", "x"),
        ("max_failures", 0),
        ("namespace", "a\0"),
        ("settle", 0),
    ],
)
def test_options_are_checked_by_name(option: str, value: object) -> None:
    """Each has a rule, and the message names it."""
    with pytest.raises(InvalidArgument, match=option):
        Provisioner(connect(Sandbox(port=1)), **{option: value})


def test_a_provisioner_needs_a_session() -> None:
    """Anything else is refused at once."""
    with pytest.raises(InvalidArgument, match="Provisioner: session must be Session"):
        Provisioner("https://api.weixin.qq.com")


async def test_apply_needs_the_block(rig: Rig) -> None:
    """Before and after `async with` nothing is started."""
    provisioner = rig.provisioner()
    with pytest.raises(SessionClosed, match="the provisioner is not open"):
        provisioner.apply([])
    async with provisioner:
        await provisioner.apply([]).wait()
    with pytest.raises(SessionClosed, match="the provisioner is not open"):
        provisioner.apply([])


async def test_apply_needs_an_open_session() -> None:
    """It says so itself, instead of starting a run that fails."""
    async with Provisioner(connect(Sandbox(port=1))) as provisioner:
        with pytest.raises(SessionClosed, match="not open yet"):
            provisioner.apply([Tenant("a")])
        with pytest.raises(SessionClosed, match="not open yet"):
            await provisioner.plan([Tenant("a")])


async def test_a_platform_that_is_not_on_this_machine_needs_a_durable_journal(box: Sandbox, rigging: Rigging) -> None:
    """A crash would lose track of what is billed; planning spends nothing, and a journal on disk is accepted."""

    class Durable(MemoryJournal):
        durable = True

    async with rigging.session(box, base_url="https://api.weixin.qq.com") as session:
        async with Provisioner(session) as provisioner:
            plan = await provisioner.plan([Tenant("a")])
            for what in (plan, [Tenant("a")]):
                with pytest.raises(InvalidArgument, match="not on this machine"):
                    provisioner.apply(what)
        async with Provisioner(session, journal=Durable()) as provisioner:
            assert (await provisioner.apply(await provisioner.plan([Tenant("a")])).wait()).all_done


async def test_doubles_are_refused_before_anything_is_sent(rig: Rig) -> None:
    """A list that cannot be right starts nothing."""
    with pytest.raises(InvalidArgument, match="tenant 2: tenant 'a' is there already"):
        await rig.provision([Tenant("a"), Tenant("a")])
    assert len(rig.box.seen) == 0


async def test_two_runs_never_work_on_the_same_alias(rig: Rig) -> None:
    """Both would find it free; the second is refused while the first runs."""
    async with rig.provisioner() as provisioner:
        run = provisioner.apply([Tenant("a", alias="xY")])
        with pytest.raises(InvalidArgument, match="alias 'xy' of tenant 'b' is being worked on"):
            provisioner.apply([Tenant("b", alias="xy")])
        await run.wait()
        again = await provisioner.apply([Tenant("b", alias="xy")]).wait()
    assert again.tenants[0].outcome is wxtcb.provision.Outcome.CONFLICT
