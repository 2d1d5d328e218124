"""The commands and their options."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from wxtcb.cli import token as token_command
from wxtcb.cli.listing import print_endpoints
from wxtcb.cli.output import be_patient, say
from wxtcb.cli.provision import Options, provision
from wxtcb.cli.sandbox import serve
from wxtcb.errors import ApiError, InvalidArgument, TicketError, WxtcbError
from wxtcb.events import logger

REFUSED: Final = 2
RAISED: Final = 3
INTERRUPTED: Final = 130
app: Final = typer.Typer(
    name="wxtcb",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="WeChat Open Platform's batch cloud development. Credentials come from the environment only: "
    "WXTCB_COMPONENT_APPID, WXTCB_COMPONENT_APPSECRET, WXTCB_TICKET or WXTCB_TICKET_FILE, WXTCB_BASE_URL.",
)


def main() -> None:
    """Run the command line; a reader of the output who leaves early disturbs nothing."""
    be_patient()
    app(prog_name="wxtcb")


def _end(command: Callable[[], int]) -> None:
    """Leave with the command's exit code; with the reason for what was refused, or for the call that raised."""
    try:
        code = command()
    except WxtcbError as error:
        say(f"wxtcb: {error}")
        code = _code_of(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def _code_of(error: WxtcbError) -> int:
    """Tell what was refused before anything was sent from what came of a call."""
    unsent = isinstance(error, InvalidArgument | TicketError) and not isinstance(error, ApiError)
    return REFUSED if unsent else RAISED


def _show_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"wxtcb {_version()}")
        raise typer.Exit


def _version() -> str:
    try:
        return importlib.metadata.version("wxtcb")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda wanted: _show_version(wanted=wanted), is_eager=True, help="Print the version."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Write the log, with a line per retry, to standard error.")
    ] = False,
) -> None:
    logger.addHandler(logging.StreamHandler() if verbose else logging.NullHandler())


@app.command(
    "provision",
    short_help="Open environments for a file of tenants.",
    help="Open environments for the tenants of FILE, share them, establish services.\n\n"
    "Exit codes: 0 all done (awaiting confirmation counts as done); 2 refused before anything was sent; 3 something "
    "failed, is unknown, in conflict or unfinished; 130 or 143 ended by Ctrl-C or SIGTERM, after the report.",
)
def _provision(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Tenants: .csv, .toml, .jsonl or .ndjson.", show_default=False)
    ],
    *,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Run against a simulated platform; never asks.")] = False,
    journal: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Accepted, but nothing is kept yet.", show_default=False)
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, metavar="N", help="Creates under way at a time.")] = 16,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="Seconds an environment may take to be NORMAL.")
    ] = 600.0,
    max_failures: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Start no other tenant after so many failed.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before spending.")] = False,
    _own_token: Annotated[
        bool, typer.Option("--own-token", help="Matters only for a platform that is not on this machine.")
    ] = False,
) -> None:
    options = Options(
        file=file,
        sandbox=sandbox,
        journal=journal,
        concurrency=concurrency,
        timeout=timeout,
        max_failures=max_failures,
        as_json=as_json,
        yes=yes,
    )
    _end(lambda: provision(options))


@app.command("sandbox", short_help="Simulate the platform on loopback.")
def _sandbox(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")] = 0,
    ready_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Seconds until an environment is NORMAL.")
    ] = 0.0,
    token_life: Annotated[int, typer.Option(min=1, metavar="SECONDS", help="Seconds a token lives.")] = 7200,
    busy: Annotated[float, typer.Option(min=0, max=1, metavar="FRACTION", help="Fraction of calls answered -1.")] = 0.0,
) -> None:
    """Simulate the platform on loopback until Ctrl-C; print made-up credentials to paste."""
    _end(lambda: serve(port=port, ready_after=ready_after, token_life=token_life, busy=busy))


@app.command("endpoints")
def _endpoints(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> None:
    """List the platform's calls that wxtcb knows."""
    _end(lambda: print_endpoints(as_json=as_json))


@app.command("token", short_help="Show which credentials are set.")
def _token(
    *,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch a new token, which may void others.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="With --fetch: print the value itself.")] = False,
    own_token: Annotated[
        bool, typer.Option("--own-token", help="Fetch also where a backend's token would be voided.")
    ] = False,
) -> None:
    """Show which credentials are set; fetch a token only with --fetch."""
    _end(lambda: token_command.token(fetch=fetch, reveal=reveal, own_token=own_token))
