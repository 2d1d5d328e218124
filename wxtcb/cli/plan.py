"""`wxtcb plan`: what `provision` would do, before it does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console

from wxtcb.cli.console import console, print_document, print_table, printable, say_below
from wxtcb.cli.journal_file import demand_journal, lend_journal, path_beside
from wxtcb.cli.remedies import remedies
from wxtcb.cli.signals import Ended, run_until_signal
from wxtcb.cli.target import Platform, choose_platform
from wxtcb.errors import InvalidArgument
from wxtcb.provision import (
    SIGNS,
    Action,
    Journal,
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
    """What is to be planned: the tenants of a file, who are all there are, and what a person has decided about them."""

    file: Path
    adopt: dict[str, str] = attrs.field(factory=dict[str, str])
    forget: dict[str, str] = attrs.field(factory=dict[str, str])
    removed: bool = False
    resend_links: bool = False

    @classmethod
    def of(
        cls, file: Path, adopt: list[str] | None, forget: list[str] | None, *, removed: bool, resend_links: bool
    ) -> Wish:
        """Read `TENANT=ENV` pairs; `InvalidArgument` for what is none."""
        given = {"adopt": _pairs("--adopt", adopt), "forget": _pairs("--forget", forget)}
        return cls(file=file, removed=removed, resend_links=resend_links, **given)

    def tenants(self, platform: Platform) -> tuple[Tenant, ...]:
        """Read the file."""
        return read_tenants(self.file, namespace=platform.component_appid)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    pairs = [_pair(option, each) for each in given or ()]
    if len(dict(pairs)) < len(pairs):
        raise InvalidArgument(f"{option}: a tenant is named twice; nothing was sent")
    return dict(pairs)


def _pair(option: str, text: str) -> tuple[str, str]:
    tenant, _, env = text.rpartition("=")
    if not tenant.strip() or not env.strip():
        raise InvalidArgument(f"{option}: {text!r} is not TENANT=ENV; nothing was sent")
    return tenant.strip(), env.strip()


def plan(wish: Wish, *, sandbox: bool, journal: Path | None, own_token: bool, as_json: bool) -> int:
    """Print the plan; return the exit code. Nothing is spent or changed, and no journal is made."""
    platform = choose_platform("plan", sandbox=sandbox, own_token=own_token)
    tenants = wish.tenants(platform)
    return lend_journal(
        _find_journal(wish.file, journal, sandbox=sandbox),
        lambda kept: _tell(make_plan(wish, tenants, platform, kept, platform.settle), as_json=as_json),
    )


def _find_journal(file: Path, journal: Path | None, *, sandbox: bool) -> Path | None:
    """Return the journal to plan with; there may be none beside the file yet, but the one that was named is there."""
    if journal is not None:
        return demand_journal(journal)
    beside = path_beside(file)
    return beside if beside.exists() and not sandbox else None


def _tell(made: Plan | Ended, *, as_json: bool) -> int:
    if isinstance(made, Ended):
        return made.exit_code
    if as_json:
        print_document(made.to_json())
    else:
        print_plan(console(), made)
    return 0


def make_plan(
    wish: Wish, tenants: tuple[Tenant, ...], platform: Platform, journal: Journal, settle: float
) -> Plan | Ended:
    """Look at the platform; a signal that comes first is said to have cut that off."""
    made = run_until_signal(_look(wish, tenants, platform, journal, settle))
    if isinstance(made, Ended):
        say_below(f"{made.name} cut the look off; nothing was changed.")
    return made


async def _look(wish: Wish, tenants: tuple[Tenant, ...], platform: Platform, journal: Journal, settle: float) -> Plan:
    decisions = attrs.asdict(wish, filter=lambda field, _: field.name != "file")
    async with platform.session() as session, Provisioner(session, journal=journal, settle=settle) as provisioner:
        return await provisioner.plan(tenants, whole=True, **decisions)


def print_plan(screen: Console, plan: Plan, *, most: int | None = None) -> None:
    """Print a line for every tenant, of each action *most* at most, the sum, and what to type where one has to decide.

    On a terminal nothing is cut off: what is too wide goes on below.
    """
    shown, hidden = _choose(plan, most)
    print_table(screen, _HEADER, [_row(planned) for planned in shown])
    for action, count in hidden.items():
        screen.print(f"  and {count} more: {action.value}")
    if hidden:
        screen.print("  `wxtcb plan` shows them all")
    screen.print(plan.summary)
    for line in (*map(printable, plan.notes), *remedies(plan)):
        screen.print(line, soft_wrap=not screen.is_terminal)


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
    tenant, record = planned.tenant, planned.to_go_by
    for step in planned.steps:
        match step:
            case "environment":
                yield "open" if planned.env is None else "adopt"
            case "ready":
                yield "await NORMAL"
            case "share":
                yield f"share with {len(record.unshared(tenant.appids))}"
            case _:
                if left := [each for each in tenant.services if not record.has_service(each.name)]:
                    yield f"establish {', '.join(map(_service, left))}"
                if unconfirmed := record.unconfirmed(tenant.service_names):
                    yield f"confirm {', '.join(unconfirmed)}"


def _service(service: Service) -> str:
    return f"{service.name} ({service.remark})" if service.remark else service.name
