"""Commands `wxtcb submit`, `wxtcb status` and `wxtcb decide`, which use the journal only."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import orjson

from wxtcb.cli.console import (
    echo_err,
    echo_err_newline,
    echo_out,
    escape_unprintable,
    make_console,
    print_json,
    print_json_bytes,
    print_table,
)
from wxtcb.cli.journal import require_journal, require_selection, run_with_journal, select_journal
from wxtcb.cli.runner import EXIT_FAILED, Interrupted, run_until_signal
from wxtcb.errors import InvalidArgument
from wxtcb.provision import DesiredState, ProvisioningClient, TenantStatus, UnknownTenant, read_tenants
from wxtcb.provision.election import Leader
from wxtcb.provision.journal import SharedJournal
from wxtcb.provision.record import JournalIdentity
from wxtcb.tokens.env_vars import Variables

_NO_LEADER: Final = "No process is elected: start `wxtcb worker`."
_MAX_LISTED: Final = 50
# Seconds between two reads of --watch; the longer one if no change was noticed.
_MIN_READ_INTERVAL: Final = 0.5
_MAX_READ_INTERVAL: Final = 5.0

Work = Callable[[ProvisioningClient, JournalIdentity], Coroutine[Any, Any, int]]


def submit(file: Path, *, journal: str | None, as_json: bool) -> int:
    """Submit the tenants of a file and print how many are new or changed; return the exit code.

    Raises `WxtcbError`; then nothing was stored, unless the journal failed.
    """

    async def work(client: ProvisioningClient, identity: JournalIdentity) -> int:
        submission = await client.submit(await asyncio.to_thread(read_tenants, file, namespace=identity.namespace))
        if as_json:
            print_json(attrs.asdict(submission))
        else:
            echo_out(f"{submission.new} new, {submission.changed} changed, {submission.unchanged} unchanged")
        await _warn_without_leader(client)
        return 0

    return _run_with_client(journal, work, changes=True)


def decide(
    tenant: str, *, journal: str | None, adopt: str | None, forget: str | None, retry: bool, cancel: bool
) -> int:
    """Store a decision about a tenant, and return the exit code.

    Raises `InvalidArgument` unless exactly one decision is given, and `JournalError`, such as `UnknownTenant`.
    """
    if sum((adopt is not None, forget is not None, retry, cancel)) != 1:
        raise InvalidArgument("decide: give exactly one of --adopt, --forget, --retry and --cancel")

    async def work(client: ProvisioningClient, _: JournalIdentity) -> int:
        if not cancel:
            await client.decide(tenant, adopt=adopt, forget=forget, retry=retry)
            name = escape_unprintable(shlex.quote(tenant))
            echo_out(f"Stored. The elected process carries it out; `wxtcb status {name}` shows the result.")
            await _warn_without_leader(client)
        elif await client.cancel(tenant):
            echo_out("Cancelled. What was created stays, and may be billed; submit the tenant again to continue.")
        else:
            echo_out("Nothing was changed: the tenant is done, or was cancelled before.")
        return 0

    return _run_with_client(journal, work, changes=True)


async def _warn_without_leader(client: ProvisioningClient) -> None:
    if await client.journal.election.leader() is None:
        echo_err(_NO_LEADER)


def _run_with_client(option: str | None, work: Work, *, changes: bool) -> int:
    """Run *work* with a client of the selected journal; return its exit code, or that of a signal.

    *changes*: whether the work changes anything. Raises `InvalidArgument` if there is no journal, or if it belongs to
    another platform than that of the variables.
    """
    selected = require_journal(require_selection(select_journal(option)))

    async def check_and_work(journal: SharedJournal) -> int:
        identity, variables = await journal.bind_identity(), Variables.read(None, None, None)
        # The variables are not required. If they are set, the user means that platform.
        appid = variables.text("COMPONENT_APPID") or identity.component_appid
        if appid != identity.component_appid:
            raise InvalidArgument(
                f"the journal belongs to component {identity.component_appid}, not to {appid} of "
                f"{variables.prefix}COMPONENT_APPID; nothing was changed"
            )
        return await work(ProvisioningClient(journal), identity)

    def action(journal: SharedJournal, runner: asyncio.Runner) -> int:
        result = run_until_signal(check_and_work(journal), runner=runner)
        if not isinstance(result, Interrupted):
            return result
        if changes:
            echo_err_newline(
                f"{result.signal_name} interrupted the command: the change may have been stored. It is safe to repeat "
                "the command."
            )
        return result.exit_code

    return run_with_journal(selected, action)


def status(tenants: Sequence[str], *, journal: str | None, needs_attention: bool, watch: bool, as_json: bool) -> int:
    """Print the status of *tenants*, or without any an overview; return the exit code.

    With *watch*, print each change until the given tenants have ended; the exit code is then 0 if all are done. Raises
    `UnknownTenant`, and `JournalError` if the journal cannot be read.
    """

    async def work(client: ProvisioningClient, _: JournalIdentity) -> int:
        view = StatusView(client, frozenset(tenants), attention_only=needs_attention)
        if watch:
            return await _watch(view, as_json=as_json)
        snapshot = await view.read()
        if as_json:
            print_json(snapshot.to_dict())
        else:
            print_snapshot(snapshot)
        return 0

    return _run_with_client(journal, work, changes=False)


@attrs.frozen
class Overview:
    """Number of tenants in each state, and the elected process."""

    counts: Mapping[DesiredState, int] = attrs.field(hash=False)
    # Its remaining time differs at each read.
    leader: Leader | None = attrs.field(eq=lambda leader: leader and leader.epoch)

    def to_dict(self) -> dict[str, object]:
        counts = {state.value: count for state, count in self.counts.items()}
        return {"counts": counts, "elected": self.leader and attrs.asdict(self.leader)}

    def describe_counts(self) -> str:
        return ", ".join(f"{state.value} {count}" for state, count in self.counts.items())

    def describe_leader(self) -> str:
        return f"Elected: {self.leader.holder} (term {self.leader.epoch})." if self.leader else _NO_LEADER


@attrs.frozen
class Snapshot:
    """Statuses to print, below an overview if no tenants are selected; `ended` if all selected tenants have ended."""

    overview: Overview | None
    statuses: tuple[TenantStatus, ...]
    ended: bool
    exit_code: int

    def to_dict(self) -> dict[str, object]:
        rows = [each.to_dict() for each in self.statuses]
        return {"tenants": rows} if self.overview is None else {**self.overview.to_dict(), "needs_attention": rows}


@attrs.frozen
class StatusView:
    """Selection of what to read: `tenants`, or an overview if that is empty; with `attention_only` no overview."""

    client: ProvisioningClient
    tenants: frozenset[str]
    attention_only: bool

    async def read(self) -> Snapshot:
        """Read what is selected; raise `UnknownTenant` or `JournalError`."""
        client, overview = self.client, None
        if not self.tenants:
            if not self.attention_only:
                overview = Overview(await client.counts(), await client.journal.election.leader())
            return Snapshot(overview, tuple([each async for each in client.needs_attention()]), False, 0)
        found = [each async for each in client.statuses(self.tenants)]
        if missing := self.tenants.difference(each.tenant for each in found):
            raise UnknownTenant(min(missing))
        states = {each.state for each in found}
        shown = [each for each in found if not self.attention_only or each.state is DesiredState.NEEDS_ATTENTION]
        exit_code = 0 if states == {DesiredState.DONE} else EXIT_FAILED
        return Snapshot(None, tuple(shown), DesiredState.WAITING not in states, exit_code)


def print_snapshot(snapshot: Snapshot) -> None:
    """Print a snapshot as a table; of an overview, at most 50 tenants."""
    console, shown = make_console(), snapshot.statuses
    if snapshot.overview is not None:
        console.print(snapshot.overview.describe_counts(), soft_wrap=True)
        console.print(escape_unprintable(snapshot.overview.describe_leader()), soft_wrap=True)
        shown = shown[:_MAX_LISTED]
    if shown:
        rows = ((each.tenant, each.state.value, each.env or "", describe(each)) for each in shown)
        print_table(console, ("tenant", "state", "environment", "details"), [*rows])
    if len(shown) < len(snapshot.statuses):
        console.print(f"and {len(snapshot.statuses) - len(shown)} more; --needs-attention lists all of them")


def describe(status: TenantStatus) -> str:
    """Return what a tenant waits for, and what its problem is."""
    return "; ".join(_describe_details(status))


def _describe_details(status: TenantStatus) -> Iterator[str]:
    if status.step:
        yield f"next step: {status.step}"
    if status.decision:
        yield "decision not carried out yet"
    if status.next_attempt:
        yield f"next attempt at {status.next_attempt.astimezone():%Y-%m-%d %H:%M:%S}"
    if status.problem:
        yield f"{status.outcome}: {status.problem}"
    if status.links:
        yield f"links to confirm: {len(status.links)}, listed by --json"


async def _watch(view: StatusView, *, as_json: bool) -> int:
    """Print changes, one in a line, until all selected tenants have ended; return the exit code."""
    wait_for_change = view.client.journal.desired.wait_for_change
    seen = await wait_for_change(0, 0.0)
    overview: Overview | None = None
    statuses: dict[str, TenantStatus] = {}
    while True:
        snapshot = await view.read()
        if snapshot.overview != overview and (overview := snapshot.overview) is not None:
            text = f"{overview.describe_counts()}. {overview.describe_leader()}"
            _print_line(overview.to_dict() if as_json else text)
        for each in snapshot.statuses:
            if each != statuses.get(each.tenant):
                _print_line(each.to_dict() if as_json else _format_status(each))
        if snapshot.ended:
            return snapshot.exit_code
        # Without those that have left the selection: they are printed again if they come back.
        statuses = {each.tenant: each for each in snapshot.statuses}
        await asyncio.sleep(_MIN_READ_INTERVAL)
        seen = await wait_for_change(seen, _MAX_READ_INTERVAL)


def _format_status(status: TenantStatus) -> str:
    env = f" ({status.env})" if status.env else ""
    details = describe(status)
    return f"{status.tenant}: {status.state.value}{env}{details and f' - {details}'}"


def _print_line(content: str | Mapping[str, object]) -> None:
    if isinstance(content, str):
        echo_out(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {escape_unprintable(content)}")
    else:
        print_json_bytes(orjson.dumps(content))
