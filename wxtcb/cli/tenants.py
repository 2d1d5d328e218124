"""The commands about files of tenants; see `app`."""

from __future__ import annotations

from typing import Final

import typer

from wxtcb.cli.help import PlainCommand
from wxtcb.cli.options import (
    Adopt,
    AsJson,
    Concurrency,
    Forget,
    JournalPath,
    MaxFailures,
    NormalWithin,
    OwnToken,
    Removed,
    ReportTo,
    ResendLinks,
    Settle,
    Simulated,
    TenantsFile,
    Yes,
)
from wxtcb.cli.runner import leave

tenants: Final = typer.Typer()


@tenants.command(
    "plan",
    cls=PlainCommand,
    short_help="Show what provision would do for a file of tenants.",
    help="Show what provision would do for the tenants of FILE; nothing is spent or changed.",
    epilog="Exit codes: 0 the plan was shown, whatever is in it; 2 refused; 3 looking failed; "
    "130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _plan(
    file: TenantsFile,
    *,
    sandbox: Simulated = False,
    journal: JournalPath = None,
    adopt: Adopt = None,
    forget: Forget = None,
    removed: Removed = False,
    resend_links: ResendLinks = False,
    own_token: OwnToken = False,
    as_json: AsJson = False,
) -> None:
    from wxtcb.cli.plan import Wish, plan

    def command() -> int:
        wish = Wish.of(file, adopt, forget, removed=removed, resend_links=resend_links)
        return plan(wish, sandbox=sandbox, journal=journal, own_token=own_token, as_json=as_json)

    leave(command)


@tenants.command(
    "provision",
    cls=PlainCommand,
    short_help="Open environments for a file of tenants.",
    help="Open environments for the tenants of FILE, share them, establish services. The plan is shown first, and you "
    "are asked before anything is spent.",
    epilog="Exit codes: 0 all done (awaiting confirmation counts as done); 2 refused, nothing was changed; 3 "
    "something failed, is unknown, in conflict or unfinished; 130 or 143 ended by Ctrl-C or SIGTERM, after the report.",
)
def _provision(
    file: TenantsFile,
    *,
    sandbox: Simulated = False,
    journal: JournalPath = None,
    adopt: Adopt = None,
    forget: Forget = None,
    removed: Removed = False,
    resend_links: ResendLinks = False,
    concurrency: Concurrency = 16,
    settle: Settle = None,
    timeout: NormalWithin = 600,
    max_failures: MaxFailures = None,
    yes: Yes = False,
    own_token: OwnToken = False,
    as_json: AsJson = False,
    report: ReportTo = None,
) -> None:
    from wxtcb.cli.journal_file import path_beside
    from wxtcb.cli.plan import Wish
    from wxtcb.cli.provision import Options, provision
    from wxtcb.cli.report_files import Reports

    def command() -> int:
        path = journal or (None if sandbox else path_beside(file))
        options = Options(
            wish=Wish.of(file, adopt, forget, removed=removed, resend_links=resend_links),
            sandbox=sandbox,
            journal=path,
            concurrency=concurrency,
            settle=settle,
            timeout=timeout,
            max_failures=max_failures,
            as_json=as_json,
            yes=yes,
            own_token=own_token,
            reports=Reports.at(report or [], sparing=[file, path]),
        )
        return provision(options)

    leave(command)


@tenants.command(
    "audit",
    cls=PlainCommand,
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

    leave(lambda: audit(file, journal=journal, own_token=own_token, as_json=as_json))
