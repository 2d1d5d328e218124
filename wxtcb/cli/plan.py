"""`wxtcb plan`: what `provision` would do, before it does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console

from wxtcb.cli.output import console, print_document, print_table, say_below
from wxtcb.cli.platforms import Platform, choose_platform
from wxtcb.cli.signals import Ended, run_until_signal
from wxtcb.errors import InvalidArgument
from wxtcb.provision import (
    SIGNS,
    Action,
    Journal,
    MemoryJournal,
    Plan,
    Planned,
    Provisioner,
    Service,
    Tenant,
    read_tenants,
)

_HEADER: Final = ("", "tenant", "action", "environment", "to do")


@attrs.frozen(kw_only=True)
class Wish:
    """What is to be planned: the tenants of a file, and what a person has decided about them."""

    file: Path
    adopt: dict[str, str]
    resend_links: bool
    journal: Journal = attrs.field(factory=MemoryJournal)

    @classmethod
    def of(cls, file: Path, adopt: list[str], *, resend_links: bool) -> Wish:
        """Read `TENANT=ENV` pairs; `InvalidArgument` for what is none."""
        pairs = dict(_pair(each) for each in adopt)
        if len(pairs) < len(adopt):
            raise InvalidArgument("--adopt: a tenant is named twice; nothing was sent")
        return cls(file=file, adopt=pairs, resend_links=resend_links)

    def tenants(self, platform: Platform) -> tuple[Tenant, ...]:
        """Read the file."""
        return read_tenants(self.file, namespace=platform.component_appid)


def _pair(text: str) -> tuple[str, str]:
    tenant, _, env = text.rpartition("=")
    if not tenant.strip() or not env.strip():
        raise InvalidArgument(f"--adopt: {text!r} is not TENANT=ENV; nothing was sent")
    return tenant.strip(), env.strip()


def plan(wish: Wish, *, sandbox: bool, own_token: bool, as_json: bool) -> int:
    """Print the plan; return the exit code. Nothing is spent or changed."""
    platform = choose_platform("plan", sandbox=sandbox, own_token=own_token)
    made = make_plan(wish, wish.tenants(platform), platform)
    if isinstance(made, Ended):
        return made.exit_code
    if as_json:
        print_document(made.to_json())
    else:
        print_plan(console(), made)
    return 0


def make_plan(wish: Wish, tenants: tuple[Tenant, ...], platform: Platform) -> Plan | Ended:
    """Look at the platform; a signal that comes first is said to have cut that off."""
    made = run_until_signal(_look(wish, tenants, platform))
    if isinstance(made, Ended):
        say_below(f"{made.name} cut the look off; nothing was changed.")
    return made


async def _look(wish: Wish, tenants: tuple[Tenant, ...], platform: Platform) -> Plan:
    async with platform.session() as session, Provisioner(session, journal=wish.journal) as provisioner:
        return await provisioner.plan(tenants, adopt=wish.adopt, resend_links=wish.resend_links)


def print_plan(screen: Console, plan: Plan, *, most: int | None = None) -> None:
    """Print a line for every tenant, of each action *most* at most, and the sum.

    On a terminal nothing is cut off: what is too wide goes on below.
    """
    shown, hidden = _choose(plan, most)
    print_table(screen, _HEADER, [_row(planned) for planned in shown])
    for action, count in hidden.items():
        screen.print(f"  and {count} more: {action.value}")
    if hidden:
        screen.print("  `wxtcb plan` shows them all")
    screen.print(plan.summary)


def _choose(plan: Plan, most: int | None) -> tuple[list[Planned], dict[Action, int]]:
    shown: list[Planned] = []
    counts: dict[Action, int] = defaultdict(int)
    for planned in plan.tenants:
        counts[planned.action] += 1
        if most is None or counts[planned.action] <= most:
            shown.append(planned)
    return shown, {action: count - most for action, count in counts.items() if most is not None and count > most}


def _row(planned: Planned) -> tuple[str, ...]:
    what = planned.reason or ", ".join(_errands(planned)) or "nothing"
    env = planned.env or f"alias {planned.alias}"
    return SIGNS[planned.action], planned.tenant.name, planned.action.value, env, what


def _errands(planned: Planned) -> Iterator[str]:
    tenant, record = planned.tenant, planned.record
    for step in planned.steps:
        match step:
            case "environment":
                yield "open" if planned.env is None else "adopt"
            case "ready":
                yield "await NORMAL"
            case "share":
                yield f"share with {len(record.unshared(tenant.appids))}"
            case _:
                left = (each for each in tenant.services if not record.has_service(each.name))
                yield f"establish {', '.join(map(_service, left))}"


def _service(service: Service) -> str:
    return f"{service.name} ({service.remark})" if service.remark else service.name
