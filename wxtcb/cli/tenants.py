"""The commands about files of tenants; see `app`."""

from __future__ import annotations

from typing import Final

import typer

from wxtcb.cli.help import PlainHelpCommand
from wxtcb.cli.options import (
    Adopt,
    AsJson,
    Concurrency,
    Forget,
    JournalPath,
    MaxFailures,
    OwnToken,
    ReadyTimeout,
    Removed,
    ReportPaths,
    ResendLinks,
    Settle,
    TenantsFile,
    UseSandbox,
    Yes,
)
from wxtcb.cli.runner import run_and_exit

tenant_commands: Final = typer.Typer()


@tenant_commands.command(
    "plan",
    cls=PlainHelpCommand,
    short_help="Show what provision would do for a file of tenants.",
    help="Show what provision would do for the tenants of FILE; nothing is spent or changed.",
    epilog="Exit codes: 0 the plan was shown, whatever is in it; 2 refused; 3 looking failed; "
    "130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _plan(
    file: TenantsFile,
    *,
    sandbox: UseSandbox = False,
    journal: JournalPath = None,
    adopt: Adopt = None,
    forget: Forget = None,
    removed: Removed = False,
    resend_links: ResendLinks = False,
    own_token: OwnToken = False,
    as_json: AsJson = False,
) -> None:
    from wxtcb.cli.plan import PlanRequest, plan

    def command() -> int:
        wish = PlanRequest.from_options(file, adopt, forget, removed=removed, resend_links=resend_links)
        return plan(wish, sandbox=sandbox, journal=journal, own_token=own_token, as_json=as_json)

    run_and_exit(command)


@tenant_commands.command(
    "provision",
    cls=PlainHelpCommand,
    short_help="Open environments for a file of tenants.",
    help="Open environments for the tenants of FILE, share them, establish services. The plan is shown first, and you "
    "are asked before anything is spent.",
    epilog="Exit codes: 0 all done (awaiting confirmation counts as done); 2 refused, nothing was changed; 3 "
    "something failed, is unknown, in conflict or unfinished; 130 or 143 ended by Ctrl-C or SIGTERM, after the report.",
)
def _provision(
    file: TenantsFile,
    *,
    sandbox: UseSandbox = False,
    journal: JournalPath = None,
    adopt: Adopt = None,
    forget: Forget = None,
    removed: Removed = False,
    resend_links: ResendLinks = False,
    concurrency: Concurrency = 16,
    settle: Settle = None,
    timeout: ReadyTimeout = 600,
    max_failures: MaxFailures = None,
    yes: Yes = False,
    own_token: OwnToken = False,
    as_json: AsJson = False,
    report: ReportPaths = None,
) -> None:
    from wxtcb.cli.journal_file import default_journal_path
    from wxtcb.cli.plan import PlanRequest
    from wxtcb.cli.provision import ProvisionOptions, provision
    from wxtcb.cli.report_files import ReportFiles

    def command() -> int:
        path = journal or (None if sandbox else default_journal_path(file))
        options = ProvisionOptions(
            request=PlanRequest.from_options(file, adopt, forget, removed=removed, resend_links=resend_links),
            sandbox=sandbox,
            journal=path,
            concurrency=concurrency,
            settle=settle,
            timeout=timeout,
            max_failures=max_failures,
            as_json=as_json,
            yes=yes,
            own_token=own_token,
            report_files=ReportFiles.for_paths(report or [], protected=[file, path]),
        )
        return provision(options)

    run_and_exit(command)


@tenant_commands.command(
    "audit",
    cls=PlainHelpCommand,
    short_help="Hold a file of tenants and its journal against the platform.",
    help="Hold the tenants of FILE and the journal of their runs against what the platform lists: duplicates, orphans, "
    "conflicts, what is unclear, missing, or not as it should be. Nothing is spent or changed.",
    epilog="Exit codes: 0 proven, nothing speaks against it; 2 refused, or there is no journal; 3 not proven, or "
    "looking failed; 130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _audit(
    file: TenantsFile, *, journal: JournalPath = None, own_token: OwnToken = False, as_json: AsJson = False
) -> None:
    from wxtcb.cli.audit import audit

    run_and_exit(lambda: audit(file, journal=journal, own_token=own_token, as_json=as_json))
