"""Command `wxtcb worker`: provisions the tenants that are submitted to a journal, whenever it is elected."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, NoReturn

import attrs

from wxtcb.cli.console import escape_unprintable, resilient_stream
from wxtcb.cli.journal import announce_new_journal, require_selection, run_with_journal, select_journal
from wxtcb.cli.progress import format_tenant
from wxtcb.cli.runner import Interrupted, run_until_signal
from wxtcb.cli.target import Target, select_target
from wxtcb.errors import InvalidArgument
from wxtcb.provision import Provisioner, StopReason
from wxtcb.provision.events import (
    ElectionUnavailable,
    RunEvent,
    RunStopped,
    StepOutcomeUnknown,
    TenantFinished,
    TermEnded,
    TermStarted,
)
from wxtcb.provision.journal import SharedJournal
from wxtcb.validation import is_loopback

# They are followed by the end of the term, which says why.
_ENDS_OF_TERM: Final = (StopReason.CANCELLED, StopReason.DEPOSED)


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """Options of the command; `settle` and `timeout` are in seconds."""

    sandbox: bool
    journal: str | None
    concurrency: int
    settle: float | None
    timeout: float
    yes: bool
    own_token: bool


def work(options: WorkerOptions) -> int:
    """Provision what is submitted until a signal; return the exit code of the signal.

    Raises `WxtcbError` if the command is rejected before anything is sent, or if the work cannot go on.
    """
    target = select_target("worker", sandbox=options.sandbox, own_token=options.own_token)
    journal = require_selection(select_journal(options.journal, sandbox=options.sandbox))
    # Nobody is there to answer a question when a service starts.
    if target.billed_url and not is_loopback(target.billed_url) and not options.yes:
        raise InvalidArgument(
            f"worker: an environment, which is billed, is created at {target.billed_url} for every tenant that is "
            "submitted to the journal: add --yes to confirm. No request was sent"
        )
    announce_new_journal(journal)

    def action(journal: SharedJournal, runner: asyncio.Runner) -> int:
        return run_until_signal(_serve(options, target, journal), _stop, runner=runner).exit_code

    return run_with_journal(journal, action)


async def _serve(options: WorkerOptions, target: Target, journal: SharedJournal) -> NoReturn:
    async with (
        target.session() as session,
        Provisioner(
            session,
            journal=journal,
            concurrency=options.concurrency,
            interval=target.interval,
            settle=options.settle or target.settle,
            timeout=options.timeout,
        ) as provisioner,
    ):
        leader = await journal.election.leader()
        state = f"another process ({leader.holder}) is elected; waiting" if leader else "waiting to be elected"
        _log_line(f"worker of {target.component_appid}: {state}")
        await provisioner.serve(on_event=log_event)


def _stop(signum: int, task: asyncio.Task[Any]) -> None:
    name = Interrupted(signum).signal_name
    _log_line(f"{name}: handing over; waiting for replies to requests in progress. Repeat to cancel them.")
    task.cancel()


def log_event(event: RunEvent) -> None:
    """Log an event: terms, pauses, and tenants that are finished or whose outcome is unknown."""
    match event:
        case TermStarted(epoch):
            _log_line(f"elected (term {epoch})")
        case TermEnded(epoch, reason):
            _log_line(f"no longer elected (term {epoch}): {reason}")
        case RunStopped(reason, message, retry_after) if reason not in _ENDS_OF_TERM:
            until = f" until {retry_after.astimezone():%Y-%m-%d %H:%M:%S}" if retry_after else ""
            _log_line(f"paused{until}: {message}")
        case ElectionUnavailable(message):
            _log_line(f"not electable at the moment: {message}")
        case StepOutcomeUnknown(tenant, problem):
            _log_line(f"{tenant}: outcome unknown, checking - {problem}")
        case TenantFinished(report):
            _log_line(format_tenant(report))
        case _:
            pass


def _log_line(text: str) -> None:
    # Resilient: a full disk behind the log must not end the work.
    stream = resilient_stream(stderr=True)
    stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {escape_unprintable(text)}\n")
    stream.flush()
