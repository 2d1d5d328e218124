"""The commands; each loads what it stands on when it runs, so that help and completion come quickly."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from typing import Annotated, Final

import typer

from wxtcb._protocol.endpoint import Repeat
from wxtcb.cli.console import make_streams_resilient
from wxtcb.cli.options import (
    Adopt,
    AsJson,
    CallBody,
    CallName,
    CallQuery,
    Concurrency,
    Forget,
    JournalPath,
    MaxFailures,
    OwnToken,
    PlainHelpCommand,
    PushInterval,
    PushUrl,
    ReadyTimeout,
    Removed,
    ReportPaths,
    ResendLinks,
    Reveal,
    Seed,
    Settle,
    ShowExample,
    TenantsFile,
    UseSandbox,
    Yes,
    join_at_sign_words,
)
from wxtcb.cli.runner import run_and_exit
from wxtcb.telemetry.dispatch import logger

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


app: Final = typer.Typer(
    name="wxtcb",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="WeChat Open Platform's batch cloud development.\n\n"
    "Credentials come from the environment only: WXTCB_COMPONENT_APPID, WXTCB_COMPONENT_APPSECRET, and either "
    "WXTCB_TOKEN_STORE (sqlite:///..., redis://...), the token store of your backend, with WXTCB_TOKEN_STORE_KEY if it "
    "is sealed, or WXTCB_TICKET or WXTCB_TICKET_FILE; and WXTCB_BASE_URL where it is not the real platform. Where a "
    "store is named, a ticket beside it is used only while the store keeps none that is good.",
    epilog="First steps without an account: `wxtcb sandbox` in one terminal, and in another the lines that it prints, "
    "then `wxtcb call describe_envs`.",
)


def main() -> None:
    """Run the command line; a reader of the output who leaves early disturbs nothing."""
    make_streams_resilient()
    join_at_sign_words(os.environ)
    app(prog_name="wxtcb")


def _show_version(*, value: bool) -> None:
    if value:
        typer.echo(f"wxtcb {_version()}")
        raise typer.Exit


def _version() -> str:
    try:
        return importlib.metadata.version("wxtcb")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@app.callback()
def _global_options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda wanted: _show_version(value=wanted), is_eager=True, help="Print the version."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Write the log, with a line per retry, to standard error.")
    ] = False,
) -> None:
    logger.addHandler(logging.StreamHandler() if verbose else logging.NullHandler())


app.add_typer(tenant_commands)
general_commands: Final = typer.Typer()
app.add_typer(general_commands)


@general_commands.command(
    "call",
    cls=PlainHelpCommand,
    short_help="Make one call and print its reply.",
    help="Make one call of the platform and print its reply as JSON.\n\n"
    "A body that holds a password, a token or another secret is refused as an argument, which every program of the "
    "machine can read: give it as @FILE or -. A call that acts anew each time it is sent (neither read nor set in "
    "`wxtcb endpoints`) asks first, or needs --yes. With --example nothing is sent, and no credentials are needed.\n\n"
    "\b\nExamples:\n"
    "  wxtcb call describe_envs\n"
    '  wxtcb call create_env \'{"alias": "shop1"}\'\n'
    "  wxtcb call establish_cloudbaserun_server @service.json --yes\n"
    "  wxtcb call batch_share_env - < shares.json\n"
    "  wxtcb call batch_share_env --example > shares.json",
    epilog="Exit codes: 0 done; 2 refused before anything was sent; 3 the call failed, in part or wholly; 130 or 143 "
    "ended by Ctrl-C or SIGTERM, having said whether the call may have taken effect.",
)
def _call(
    name: CallName,
    body: CallBody = "{}",
    *,
    query: CallQuery = None,
    example: ShowExample = False,
    yes: Yes = False,
    own_token: OwnToken = False,
    reveal: Reveal = False,
) -> None:
    from wxtcb.cli.call import call, show_example

    if example:
        run_and_exit(lambda: show_example(name))
    run_and_exit(lambda: call(name, body, query or (), reveal=reveal, own_token=own_token, yes=yes))


@general_commands.command(
    "endpoints",
    cls=PlainHelpCommand,
    short_help="List the calls that wxtcb knows.",
    help="List the calls that wxtcb knows.\n\n"
    "`official` is the platform's own name of the interface. `repeat` tells what a call does when it is sent twice: "
    + "; ".join(f"{each.name.lower()} {each.value}" for each in Repeat)
    + ".",
)
def _endpoints(*, as_json: AsJson = False) -> None:
    from wxtcb.cli.endpoints import print_endpoints

    run_and_exit(lambda: print_endpoints(as_json=as_json))


@general_commands.command(
    "token",
    cls=PlainHelpCommand,
    short_help="Show how token and ticket are; fetch a token on request.",
    help="Show which credentials are set, how token and ticket are in the store that WXTCB_TOKEN_STORE names, and what "
    "is wrong with them, by whichever process that was met.\n\n"
    "With --fetch see to a living token: that of the store, renewed where that is due, or without a store a new one, "
    "which voids others. It is printed only with --reveal.\n\n"
    "The ticket is the one in the store; WXTCB_TICKET or WXTCB_TICKET_FILE is used only while the store keeps none "
    "that is good.",
    epilog="Exit codes: 0 it was shown, whatever is wrong, or a token is there; 2 refused before anything was sent; 3 "
    "no token was to be had; 130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _token(
    *,
    fetch: Annotated[bool, typer.Option("--fetch", help="See to a living token.")] = False,
    own_token: OwnToken = False,
    reveal: Reveal = False,
) -> None:
    from wxtcb.cli.token import token

    run_and_exit(lambda: token(fetch=fetch, reveal=reveal, own_token=own_token))


@general_commands.command(
    "sandbox",
    cls=PlainHelpCommand,
    short_help="Simulate the platform on loopback.",
    help="Simulate the platform on loopback until Ctrl-C, and then forget everything.\n\n"
    "It prints credentials to paste, made up anew each time: each run is a platform of its own, of which no token "
    "store knows anything yet. With --seed they are the same each time; then remove the stores of earlier runs, whose "
    "tokens and tickets it does not know.\n\n"
    "With --push it pushes tickets as WeChat does. After 5 failures in a row it stops, as WeChat does, until "
    "`wxtcb call api_start_push_ticket` starts it again.",
    epilog="Exit codes: 2 refused, nothing was served; 130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")] = 0,
    ready_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds until an environment is NORMAL.")
    ] = 0,
    token_life: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Seconds a token lives.")] = 7200,
    busy: Annotated[float, typer.Option(min=0, max=1, metavar="FRACTION", help="Fraction of calls answered -1.")] = 0,
    seed: Seed = None,
    push: PushUrl = None,
    push_every: PushInterval = 600,
) -> None:
    from wxtcb.cli.sandbox import PushTarget, serve

    aim = PushTarget(push, push_every) if push is not None else None
    run_and_exit(
        lambda: serve(port=port, ready_after=ready_after, token_ttl=token_life, busy=busy, seed=seed, push_target=aim)
    )


ticket_commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ticket_commands, name="ticket", short_help="Receive the tickets that WeChat pushes.")


@ticket_commands.callback()
def _ticket_group() -> None:
    """Receive the tickets that WeChat pushes, without which no token can be bought."""


@ticket_commands.command(
    "serve",
    cls=PlainHelpCommand,
    short_help="Receive tickets, and keep the newest in the token store.",
    help="Receive the tickets that WeChat pushes, and keep the newest in the token store, until Ctrl-C.\n\n"
    "For a platform whose backend does not receive them itself. The address, behind a proxy that speaks HTTPS, is the "
    "platform's URL for authorisation events. The environment says the rest: WXTCB_COMPONENT_APPID, "
    "WXTCB_MESSAGE_TOKEN and WXTCB_ENCODING_AES_KEY as in WeChat's console, WXTCB_PREVIOUS_ENCODING_AES_KEY while the "
    "key is being changed, WXTCB_TOKEN_STORE (sqlite:///..., redis://...), the store of the programs that need the "
    "ticket, and WXTCB_TOKEN_STORE_KEY where that is sealed. Other messages are answered, and go nowhere.",
    epilog="Exit codes: 2 refused before anything was received; 130 or 143 ended by Ctrl-C or SIGTERM.",
)
def _ticket_serve(
    *,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; what is not loopback belongs behind TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")] = 8080,
    path: Annotated[str, typer.Option(metavar="PATH", help="Where pushes come in; all else is 404.")] = "/wechat/push",
) -> None:
    from wxtcb.cli.ticket import ListenAddress, serve

    run_and_exit(lambda: serve(ListenAddress(host, port, path)))
