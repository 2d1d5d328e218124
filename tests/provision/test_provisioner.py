"""Provisioner: options, and the preconditions of a run."""

from __future__ import annotations

import asyncio
import inspect

import pytest

import wxtcb
from wxtcb.errors import InvalidArgument, SessionClosed
from wxtcb.provision import STEPS, MemoryJournal, Provisioner, Tenant
from wxtcb.sandbox import Sandbox

from .conftest import Harness, SessionFactory, connect
from .constants import CREATE

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
def test_invalid_option_is_rejected(option: str, value: object) -> None:
    """The message names the option."""
    with pytest.raises(InvalidArgument, match=option):
        Provisioner(connect(Sandbox(port=1)), **{option: value})


def test_provisioner_requires_a_session() -> None:
    """Any other type is rejected."""
    with pytest.raises(InvalidArgument, match=r"session .*Session"):
        Provisioner("https://api.weixin.qq.com")


def test_steps_must_have_different_names() -> None:
    """Plans, events and reports refer to a step by its name."""
    with pytest.raises(InvalidArgument, match="different names"):
        Provisioner(connect(Sandbox(port=1)), steps=[*STEPS, STEPS[0]])


async def test_apply_requires_an_open_provisioner(harness: Harness) -> None:
    """No run starts before or after the `async with` block."""
    provisioner = harness.provisioner()
    with pytest.raises(SessionClosed, match="the provisioner is not open"):
        provisioner.apply([])
    async with provisioner:
        await provisioner.apply([]).wait()
    with pytest.raises(SessionClosed, match="the provisioner is not open"):
        provisioner.apply([])


async def test_apply_requires_an_open_session() -> None:
    """The error is raised at once, without starting a run."""
    async with Provisioner(connect(Sandbox(port=1))) as provisioner:
        with pytest.raises(SessionClosed, match="not open yet"):
            provisioner.apply([Tenant("a")])
        with pytest.raises(SessionClosed, match="not open yet"):
            await provisioner.plan([Tenant("a")])


async def test_real_platform_requires_a_durable_journal(sandbox: Sandbox, session_factory: SessionFactory) -> None:
    """A crash would lose track of billed environments; planning costs nothing and is allowed."""

    class Durable(MemoryJournal):
        durable = True

    async with session_factory.session(sandbox, base_url="https://api.weixin.qq.com") as session:
        async with Provisioner(session) as provisioner:
            plan = await provisioner.plan([Tenant("a")])
            for plan_or_tenants in (plan, [Tenant("a")]):
                with pytest.raises(InvalidArgument, match="not on this machine"):
                    provisioner.apply(plan_or_tenants)
        async with Provisioner(session, journal=Durable()) as provisioner:
            assert (await provisioner.apply(await provisioner.plan([Tenant("a")])).wait()).all_done


async def test_duplicate_tenants_send_no_request(harness: Harness) -> None:
    """The duplicates are rejected before the run starts."""
    with pytest.raises(InvalidArgument, match="tenant 2: tenant 'a' is duplicated"):
        await harness.provision([Tenant("a"), Tenant("a")])
    assert len(harness.sandbox.seen) == 0


async def test_runs_at_the_same_time_share_tenants_and_aliases(harness: Harness) -> None:
    """A tenant in both is worked on once, and reported by both; another tenant with its alias is a conflict."""
    async with harness.provisioner() as provisioner:
        tenants = ([Tenant("a", alias="xY")], [Tenant("a", alias="xY")], [Tenant("b", alias="xy")])
        first, second, other = await asyncio.gather(*map(provisioner.apply, tenants))
    assert first.all_done
    assert second.tenants == first.tenants
    assert other.tenants[0].outcome is wxtcb.provision.Outcome.CONFLICT
    assert harness.sandbox.count(CREATE) == 1


async def test_plain_with_names_async_with() -> None:
    """Python itself would only say that a protocol is not supported."""
    session = wxtcb.Session(component_appid="wx0123456789abcdef", component_appsecret="s")
    for each in (session, Provisioner(session)):
        with pytest.raises(TypeError, match="async with"):
            each.__enter__()
        each.__exit__(None, None, None)


def test_signature_shows_no_insides() -> None:
    """Editors show the signature of the class."""
    assert "<function" not in str(inspect.signature(Provisioner))
