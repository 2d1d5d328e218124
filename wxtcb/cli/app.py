"""Commands of the command line: their arguments, help texts and exit codes."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
from functools import partial
from typing import Annotated, Final

import typer

from wxtcb._protocol.endpoint import Repeat
from wxtcb.cli import options
from wxtcb.cli.runner import prepare_standard_streams, report_output_error, run_and_exit
from wxtcb.telemetry.dispatch import logger
from wxtcb.tokens.stores import STORE_CREATED

# Each command imports its own module when it runs: help and completion must not wait for rich, provision and sandbox.

app: Final = typer.Typer(
    name="wxtcb",
    no_args_is_help=True,
    # typer's own tracebacks print local variables, which hold secrets.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Client for batch cloud development (批量云开发) of WeChat Open Platform.\n\n"
    "Credentials are read from environment variables only: WXTCB_COMPONENT_APPID, WXTCB_COMPONENT_APPSECRET, and a "
    "token store or a ticket. WXTCB_TOKEN_STORE (sqlite:////..., postgresql://..., rediss://...) is the token store of "
    "your backend; WXTCB_TOKEN_STORE_KEY decrypts it. WXTCB_TICKET is a ticket, WXTCB_TICKET_FILE a file that contains "
    "one; with a token store they are used only if it contains no valid ticket. WXTCB_BASE_URL is the address of "
    "another platform, such as a sandbox. WXTCB_JOURNAL (postgresql://..., or a path) is the journal that all "
    "processes share.\n\n"
    "With the suffix _FILE, each variable is the path of a file with the value. WXTCB_ENV_FILE is a file of lines "
    "NAME=VALUE for variables that are not set. With WXTCB_PROFILE=shop, all names start with WXTCB_SHOP_.",
    epilog="To try it without an account, run `wxtcb sandbox`. Paste the lines that it prints into another terminal, "
    "and run `wxtcb call describe_envs` there.",
)
# Without a name, a Typer adds its commands to `app`. typer lists groups before commands: `ticket` would come first.
commands: Final = typer.Typer()
app.add_typer(commands)
command: Final = partial(commands.command, cls=options.PlainHelpCommand)


def main() -> None:
    """Run the command line and exit the process with its exit code."""
    prepare_standard_streams()
    options.join_at_sign_words(os.environ)
    try:
        app(prog_name="wxtcb")
    except OSError as error:
        sys.exit(report_output_error(error))


def _show_version(value: bool) -> None:  # noqa: FBT001 - the signature of an option callback
    if value:
        try:
            version = importlib.metadata.version("wxtcb")
        # A source tree on PYTHONPATH has no metadata.
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        typer.echo(f"wxtcb {version}")
        raise typer.Exit


class _StoreCreationHandler(logging.Handler):
    """Handler that prints, also without --verbose, that a relative path has created a token store."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "kind", None) == STORE_CREATED:
            from wxtcb.cli.console import echo_err, escape_unprintable

            echo_err(escape_unprintable(f"Warning: {record.getMessage()}."))


_store_creation_handler: Final = _StoreCreationHandler()


@app.callback()
def _global_options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the log to standard error, with a line for each retry.")
    ] = False,
) -> None:
    # Without a handler, the "last resort" handler of `logging` would print warnings to standard error.
    logger.addHandler(logging.StreamHandler() if verbose else _store_creation_handler)


@command(
    "plan",
    short_help="Show what provision would do for a tenants file.",
    help="Show what `wxtcb provision` would do for the tenants of FILE. Nothing is created or changed.",
    epilog="Exit codes: 0 plan shown, with or without conflicts; 2 rejected before any change; 3 the platform could "
    "not be read; 130 or 143 interrupted by Ctrl-C or SIGTERM.",
)
def _plan(
    file: options.TenantsFile,
    *,
    sandbox: options.UseSandbox = False,
    journal: options.FileJournal = None,
    adopt: options.Adopt = None,
    adopt_all: options.AdoptAll = False,
    adopt_from: options.AdoptFrom = None,
    forget: options.Forget = None,
    retry: options.Retry = None,
    removed: options.Removed = False,
    resend_links: options.ResendLinks = False,
    own_token: options.OwnToken = False,
    as_json: options.AsJson = False,
) -> None:
    from wxtcb.cli.plan import PlanRequest, plan

    def run() -> int:
        flags = {"adopt_all": adopt_all, "removed": removed, "resend_links": resend_links}
        request = PlanRequest.from_options(file, adopt, adopt_from, forget, retry, **flags)
        return plan(request, sandbox=sandbox, journal=journal, own_token=own_token, as_json=as_json)

    run_and_exit(run)


@command(
    "provision",
    short_help="Create environments and services for a tenants file.",
    help="Create an environment for each tenant of FILE, share it with the mini programs of the tenant, and establish "
    "its services. The plan is shown first. A confirmation is required before anything is billed.",
    epilog="Exit codes: 0 all done (awaiting confirmation counts as done); 2 rejected, nothing was changed; 3 a tenant "
    "failed, is in conflict or unfinished, or its outcome is unknown; 130 or 143 interrupted by Ctrl-C or SIGTERM, "
    "after the report.",
)
def _provision(
    file: options.TenantsFile,
    *,
    sandbox: options.UseSandbox = False,
    journal: options.FileJournal = None,
    adopt: options.Adopt = None,
    adopt_all: options.AdoptAll = False,
    adopt_from: options.AdoptFrom = None,
    forget: options.Forget = None,
    retry: options.Retry = None,
    removed: options.Removed = False,
    resend_links: options.ResendLinks = False,
    concurrency: options.Concurrency = 16,
    settle: options.Settle = None,
    timeout: options.ReadyTimeout = 600,
    max_failures: options.MaxFailures = None,
    yes: options.Yes = False,
    own_token: options.OwnToken = False,
    as_json: options.AsJson = False,
    report: options.ReportPaths = None,
) -> None:
    from wxtcb.cli.journal import select_journal
    from wxtcb.cli.plan import PlanRequest
    from wxtcb.cli.provision import ProvisionOptions, provision
    from wxtcb.cli.report_files import ReportFiles
    from wxtcb.provision import SqliteJournal

    def run() -> int:
        selected = select_journal(journal, sandbox=sandbox)
        if selected is None and not sandbox:
            selected = SqliteJournal.for_tenants_file(file)
        journal_path = selected.path if isinstance(selected, SqliteJournal) else None
        flags = {"adopt_all": adopt_all, "removed": removed, "resend_links": resend_links}
        return provision(
            ProvisionOptions(
                request=PlanRequest.from_options(file, adopt, adopt_from, forget, retry, **flags),
                sandbox=sandbox,
                journal=selected,
                concurrency=concurrency,
                settle=settle,
                timeout=timeout,
                max_failures=max_failures,
                as_json=as_json,
                yes=yes,
                own_token=own_token,
                report_files=ReportFiles.for_paths(report or [], protected=[file, journal_path]),
            )
        )

    run_and_exit(run)


@command(
    "audit",
    short_help="Compare a tenants file and its journal with the platform.",
    help="Compare the tenants of FILE and the journal of their runs with the platform. Reported are duplicates, "
    "orphans, conflicts, unknown outcomes, missing environments and drift. Nothing is created or changed.",
    epilog="Exit codes: 0 passed, no finding; 2 rejected, or the journal is missing; 3 not passed, or the platform "
    "could not be read; 130 or 143 interrupted by Ctrl-C or SIGTERM.",
)
def _audit(
    file: options.TenantsFile,
    *,
    journal: options.FileJournal = None,
    own_token: options.OwnToken = False,
    as_json: options.AsJson = False,
) -> None:
    from wxtcb.cli.audit import audit

    run_and_exit(lambda: audit(file, journal=journal, own_token=own_token, as_json=as_json))


@command(
    "submit",
    short_help="Submit a tenants file to the workers of a journal.",
    help="Store in the journal that the tenants of FILE are to be provisioned. The process that is elected "
    "(`wxtcb worker`, or a Provisioner that serves) does it. Credentials are not needed, and no request is sent.\n\n"
    "All tenants are stored, or none. The same tenant again changes nothing. Tenants that FILE lacks stay as they are.",
    epilog="Exit codes: 0 stored; 2 rejected, nothing was stored; 130 or 143 interrupted by Ctrl-C or SIGTERM.",
)
def _submit(
    file: options.TenantsFile, *, journal: options.SharedJournal = None, as_json: options.AsJson = False
) -> None:
    from wxtcb.cli.desired import submit

    run_and_exit(lambda: submit(file, journal=journal, as_json=as_json))


@command(
    "status",
    short_help="Show how far submitted tenants are.",
    help="Show how far the given tenants are. Without TENANT: the number of tenants in each state, the process that is "
    "elected, and the tenants that need attention. Credentials are not needed, and no request is sent.",
    epilog="Exit codes: 0 status shown; 2 rejected, or the journal cannot be read; 3 with --watch: a tenant was "
    "cancelled or needs attention at the end; 130 or 143 interrupted by Ctrl-C or SIGTERM.",
)
def _status(
    tenants: options.TenantNames = None,
    *,
    journal: options.SharedJournal = None,
    needs_attention: Annotated[
        bool, typer.Option("--needs-attention", help="Show only tenants that need attention, and all of them.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Print a line for each change, until the given tenants have ended, or until Ctrl-C."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; with --watch, one in a line for each change.")
    ] = False,
) -> None:
    from wxtcb.cli.desired import status

    flags = {"needs_attention": needs_attention, "watch": watch, "as_json": as_json}
    run_and_exit(lambda: status(tenants or (), journal=journal, **flags))


@command(
    "decide",
    short_help="Decide about a submitted tenant that needs attention.",
    help="Decide about a submitted tenant: exactly one of --adopt, --forget, --retry and --cancel. The process that is "
    "elected checks the decision and carries it out; `wxtcb status TENANT` shows the result. Credentials are not "
    "needed, and no request is sent.",
    epilog="Exit codes: 0 stored, or nothing to change; 2 rejected, nothing was stored; 130 or 143 interrupted by "
    "Ctrl-C or SIGTERM.",
)
def _decide(
    tenant: options.TenantName,
    *,
    journal: options.SharedJournal = None,
    adopt: Annotated[
        str | None, typer.Option(metavar="ENV", help="Assign this existing environment to the tenant.")
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option(metavar="ENV", help="Forget this environment of the tenant, which was deleted on purpose."),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Continue after a failure, with up to three more creates.")
    ] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Begin no further step. What was created stays, and may be billed.")
    ] = False,
) -> None:
    from wxtcb.cli.desired import decide

    run_and_exit(lambda: decide(tenant, journal=journal, adopt=adopt, forget=forget, retry=retry, cancel=cancel))


@command(
    "worker",
    short_help="Provision submitted tenants, if elected, until SIGTERM.",
    help="Provision the tenants that are submitted to the journal, until SIGTERM or Ctrl-C. Run any number of workers, "
    "on any number of hosts if the journal is in PostgreSQL: one is elected, and another takes over when it ends. "
    "After SIGTERM that takes a second.",
    epilog="Exit codes: 2 rejected before a request was sent; 3 the work failed; 130 or 143 ended by Ctrl-C or "
    "SIGTERM.",
)
def _worker(
    *,
    journal: options.SharedJournal = None,
    sandbox: options.UseSandbox = False,
    concurrency: options.Concurrency = 16,
    settle: options.Settle = None,
    timeout: options.ReadyTimeout = 600,
    yes: options.Confirmed = False,
    own_token: options.OwnToken = False,
) -> None:
    from wxtcb.cli.worker import WorkerOptions, work

    worker_options = WorkerOptions(
        sandbox=sandbox,
        journal=journal,
        concurrency=concurrency,
        settle=settle,
        timeout=timeout,
        yes=yes,
        own_token=own_token,
    )
    run_and_exit(lambda: work(worker_options))


@command(
    "init",
    short_help="Create a journal.",
    help="Create the journal of the platform in WXTCB_COMPONENT_APPID: a file, or tables in a PostgreSQL database. An "
    "existing journal stays unchanged. No request is sent to the platform.\n\n"
    "If the role of the URL may not create tables, let another role run the statements that --sql prints.",
    epilog="Exit codes: 0 the journal is ready, or the statements were printed; 2 rejected, nothing was changed; "
    "130 or 143 interrupted by Ctrl-C or SIGTERM.",
)
def _init(
    *,
    journal: options.SharedJournal = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL statements for PostgreSQL, and connect to nothing.")
    ] = False,
) -> None:
    from wxtcb.cli.journal import init

    run_and_exit(lambda: init(journal, sql=sql))


@command(
    "call",
    short_help="Make one call and print its reply.",
    help="Make one call to the platform and print its reply as JSON.\n\n"
    "NAME is the name of the coroutine, the official name, or the path. The body is checked against the documentation "
    "of the platform before anything is sent; --unchecked sends it as given.\n\n"
    "A body that contains a password, a token or another secret must be given as @FILE or -, because other programs "
    "can read the arguments. Calls that are not idempotent ask for confirmation; --yes skips the question. --example "
    "sends no request and needs no credentials.\n\n"
    "\b\nExamples:\n"
    "  wxtcb call describe_envs\n"
    '  wxtcb call create_env \'{"alias": "shop1"}\'\n'
    "  wxtcb call establish_cloudbaserun_server @service.json --yes\n"
    "  wxtcb call batch_share_env - < shares.json\n"
    "  wxtcb call batch_share_env --example > shares.json",
    epilog="Exit codes: 0 done; 2 rejected before a request was sent; 3 the call failed, or a part of it; 130 or 143 "
    "interrupted by Ctrl-C or SIGTERM, after a message whether the call may have taken effect.",
)
def _call(
    name: options.CallName,
    body: options.CallBody = "{}",
    *,
    query: options.CallQuery = None,
    example: options.ShowExample = False,
    yes: options.Yes = False,
    own_token: options.OwnToken = False,
    unchecked: options.Unchecked = False,
    reveal: options.Reveal = False,
) -> None:
    from wxtcb.cli.call import CallOptions, call, show_example

    if example:
        run_and_exit(lambda: show_example(name))
    call_options = CallOptions(reveal=reveal, own_token=own_token, yes=yes, unchecked=unchecked)
    run_and_exit(lambda: call(name, body, query or (), call_options))


@command(
    "endpoints",
    short_help="List the available calls.",
    help="List the available calls, or describe those that contain SEARCH in their name, path or description.\n\n"
    "`official` is the name of the interface in the documentation of the platform. `repeat` is the effect of sending a "
    "call twice: " + "; ".join(f"{each.name.lower()} {each.value}" for each in Repeat) + ".",
)
def _endpoints(search: options.EndpointSearch = None, *, as_json: options.AsJson = False) -> None:
    from wxtcb.cli.endpoints import print_endpoints

    run_and_exit(lambda: print_endpoints(search, as_json=as_json))


@command(
    "token",
    short_help="Show the state of token and ticket; fetch a token on request.",
    help="Show which credentials are set, the state of the token and the ticket in the token store "
    "(WXTCB_TOKEN_STORE), and the problems that any process has recorded there.\n\n"
    "--fetch makes sure that a valid token exists: the one in the store, refreshed if it is due. Without a store, it "
    "fetches a new token, which may invalidate the current one. The token is printed only with --reveal.\n\n"
    "The ticket in the store is used first; WXTCB_TICKET or WXTCB_TICKET_FILE is used only if the store contains no "
    "valid ticket.",
    epilog="Exit codes: 0 state shown, with or without problems, or a valid token exists; 2 rejected before a request "
    "was sent; 3 no token could be obtained; 130 or 143 interrupted by Ctrl-C or SIGTERM.",
)
def _token(
    *,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch a token if no valid one exists.")] = False,
    own_token: options.OwnToken = False,
    reveal: options.Reveal = False,
) -> None:
    from wxtcb.cli.token import token

    run_and_exit(lambda: token(fetch=fetch, reveal=reveal, own_token=own_token))


@command(
    "sandbox",
    short_help="Simulate the platform on loopback.",
    help="Simulate the platform on loopback until Ctrl-C. All data is lost at the end, except what --state keeps.\n\n"
    "The sandbox prints credentials to paste into a shell. They are new for each run, so that no token store contains "
    "data of an earlier run. With --seed they are the same for each run; delete the token stores of earlier runs "
    "before. With --state the credentials, the environments with their shares and services, and the port are kept in a "
    "file, for the next run.\n\n"
    "With --push it pushes tickets like WeChat. The first one is repeated every second until it is accepted. After 5 "
    "later failures in a row pushing stops, until `wxtcb call api_start_push_ticket` restarts it.",
    epilog="Exit codes: 2 rejected, the sandbox was not started; 130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 selects a free one.")] = 0,
    ready_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds until an environment is NORMAL.")
    ] = 0,
    token_life: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Seconds until a token expires.")] = 7200,
    busy: Annotated[
        float, typer.Option(min=0, max=1, metavar="FRACTION", help="Fraction of calls that are answered with -1.")
    ] = 0,
    fault: options.Faults = None,
    seed: options.Seed = None,
    push: options.PushUrl = None,
    push_every: options.PushInterval = 600,
    state: options.StatePath = None,
) -> None:
    from wxtcb.cli.sandbox import PushTarget, serve

    target = PushTarget(push, push_every) if push is not None else None
    run_and_exit(
        lambda: serve(
            port=port,
            ready_after=ready_after,
            token_ttl=token_life,
            busy=busy,
            faults=fault or (),
            seed=seed,
            push_target=target,
            state_path=state,
        )
    )


ticket_commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ticket_commands, name="ticket", short_help="Receive the tickets that WeChat pushes.")


@ticket_commands.callback()
def _ticket_group() -> None:
    """Receive the tickets (component_verify_ticket, 验证票据) that WeChat pushes. A token requires a ticket."""


@ticket_commands.command(
    "serve",
    cls=options.PlainHelpCommand,
    short_help="Receive tickets and store the newest one.",
    help="Receive the tickets that WeChat pushes, and write the newest one to the token store, until Ctrl-C.\n\n"
    "This is for platforms whose backend does not receive tickets itself. In WeChat's console, enter the HTTPS "
    "address of a proxy in front of this server as the authorisation event URL (授权事件接收URL).\n\n"
    "Environment variables: WXTCB_COMPONENT_APPID, WXTCB_MESSAGE_TOKEN and WXTCB_ENCODING_AES_KEY as in WeChat's "
    "console, WXTCB_PREVIOUS_ENCODING_AES_KEY while the key is being changed, WXTCB_TOKEN_STORE (sqlite:////..., "
    "postgresql://..., rediss://...), and WXTCB_TOKEN_STORE_KEY if the store is encrypted. Other notifications are "
    "acknowledged and discarded.\n\n"
    "WeChat's cloud hosting (微信云托管) pushes plain JSON to its services. With WXTCB_PLAIN_PUSH_KEY, a secret of 32 "
    "characters or more, such pushes are accepted at PATH/KEY.",
    epilog="Exit codes: 2 rejected before anything was received; 130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _ticket_serve(
    *,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; use a TLS proxy unless it is loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 selects a free one.")] = 8080,
    path: Annotated[
        str, typer.Option(metavar="PATH", help="Path of pushes; other paths are answered with 404.")
    ] = "/wechat/push",
) -> None:
    from wxtcb.cli.ticket import ListenAddress, serve

    run_and_exit(lambda: serve(ListenAddress(host, port, path)))
