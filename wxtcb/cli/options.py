"""Options and arguments shared by the commands, shell completion of their values, and the layout of help pages."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand

from wxtcb.api import endpoints

if TYPE_CHECKING:
    # typer vendors click since 0.26 and exports these classes nowhere else. They are needed for annotations only.
    from typer._click import Context, HelpFormatter

_GROUPING_THRESHOLD: Final = 8
_execution_option: Final = partial(typer.Option, rich_help_panel="Execution")
_confirmation_option: Final = partial(typer.Option, rich_help_panel="Confirmation")
_output_option: Final = partial(typer.Option, rich_help_panel="Output")


def complete_endpoint_name(incomplete: str) -> Iterator[str]:
    """Return the names of the calls that start with *incomplete*."""
    return (endpoint.name for endpoint in endpoints() if endpoint.name.startswith(incomplete))


def complete_body_file(incomplete: str) -> Iterator[str]:
    """Iterate over ``@file`` arguments that start with *incomplete*; a JSON argument has no completions."""
    if incomplete.startswith("@"):
        folder, slash, start = incomplete[1:].rpartition("/")
        for path in sorted(Path(folder + slash).glob("*")):
            if path.name.startswith(start):
                yield f"@{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def join_at_sign_words(environ: MutableMapping[str, str]) -> None:
    """Join each "@" of the words to complete with the word that follows it: Bash splits words there."""
    words = environ.get("COMP_WORDS", "")
    if (split := "\n@\n") in words:
        environ["COMP_WORDS"] = words.replace(split, "\n@")
        environ["COMP_CWORD"] = str(int(environ["COMP_CWORD"]) - words.count(split))


TenantsFile = Annotated[Path, typer.Argument(metavar="FILE", help="Tenants file: .csv, .toml, .jsonl or .ndjson.")]
UseSandbox = Annotated[bool, typer.Option("--sandbox", help="Use a simulated platform; ask no questions.")]
_journal_option: Final = partial(typer.Option, "--journal", metavar="URL|PATH")
# The default is not an option of typer, which would add it to the help: it depends on the profile, and on --sandbox.
FileJournal = Annotated[
    str | None,
    _journal_option(
        help="URL or path of the journal. Default: WXTCB_JOURNAL, where a URL may have a password, or else "
        "FILE.wxtcb.db."
    ),
]
SharedJournal = Annotated[
    str | None,
    _journal_option(help="URL or path of the journal. Default: WXTCB_JOURNAL, where a URL may have a password."),
]
Adopt = Annotated[
    list[str] | None,
    typer.Option(metavar="TENANT=ENV", help="Assign an existing environment to a tenant; may be repeated."),
]
AdoptAll = Annotated[
    bool,
    typer.Option(
        "--adopt-all", help="Assign to each tenant the only environment with its alias, if no tenant has it yet."
    ),
]
AdoptFrom = Annotated[
    Path | None,
    typer.Option(
        "--adopt-from",
        metavar="FILE.csv",
        help="Assign the environments of a CSV file (columns tenant, env) to tenants.",
    ),
]
Forget = Annotated[
    list[str] | None,
    typer.Option(metavar="TENANT=ENV", help="Forget an environment that was deleted on purpose; may be repeated."),
]
Retry = Annotated[
    list[str] | None,
    typer.Option(metavar="TENANT", help="Allow three more creates for a tenant; may be repeated."),
]
Removed = Annotated[
    bool,
    typer.Option("--removed", help="Confirm that tenants that FILE lacks were removed, and that none was renamed."),
]
ResendLinks = Annotated[
    bool, typer.Option("--resend-links", help="Request share links again that were already issued.")
]
Concurrency = Annotated[int, _execution_option(min=1, metavar="N", help="Number of steps that run at a time.")]
Settle = Annotated[
    float | None,
    _execution_option(
        min=0.001,
        metavar="SECONDS",
        help="Seconds to wait after an ambiguous create before checking whether it succeeded. "
        "Default: 120, or 2 with --sandbox.",
    ),
]
ReadyTimeout = Annotated[
    float,
    _execution_option(
        "--timeout", min=0.001, metavar="SECONDS", help="Seconds to wait for an environment to become NORMAL."
    ),
]
MaxFailures = Annotated[
    int | None, _execution_option(min=1, metavar="N", help="Start no further tenant after N tenants have failed.")
]
ReportPaths = Annotated[
    list[Path] | None,
    _output_option(
        "--report",
        metavar="PATH",
        help="Write the report to this file as well, in the format of its suffix: .html, .csv or .json; "
        "may be repeated.",
    ),
]

Confirmed = Annotated[
    bool, _confirmation_option("--yes", help="Confirm that environments are created and billed; there is no question.")
]
TenantName = Annotated[
    str, typer.Argument(metavar="TENANT", help="Name of a tenant; write -- before one that begins with a dash.")
]
TenantNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TENANT", help="Names of tenants; write -- before one that begins with a dash.", show_default=False
    ),
]

CallName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Name, official name or path of the call; see `wxtcb endpoints`.",
        autocompletion=complete_endpoint_name,
    ),
]
CallBody = Annotated[
    str,
    typer.Argument(
        metavar="JSON | @FILE | -",
        help="Request body, a JSON object: the argument itself, a file, or standard input. Default: {}.",
        show_default=False,
        autocompletion=complete_body_file,
    ),
]
CallQuery = Annotated[
    list[str] | None,
    typer.Option("--query", metavar="NAME=VALUE", help="Query parameter of the call; may be repeated."),
]
EndpointSearch = Annotated[
    str | None, typer.Argument(metavar="SEARCH", help="Part of a name, a path or a description.", show_default=False)
]
Unchecked = Annotated[bool, typer.Option("--unchecked", help="Send a body that the documentation does not allow.")]
ShowExample = Annotated[
    bool,
    typer.Option("--example", help="Print the documented request, and the reply on standard error; send no request."),
]

Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="KIND[:PATH[:TIMES]]",
        help="Fault such as drop-after:/componenttcb/createenv:2 or slow,seconds=3; may be repeated. "
        "docs/sandbox.md lists the kinds.",
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of the credentials and of all other random values.")]
StatePath = Annotated[
    Path | None, typer.Option("--state", metavar="FILE", help="Keep credentials and environments in this file.")
]
PushUrl = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="URL",
        help="Push tickets to this URL on this machine; `wxtcb ticket serve` receives them at "
        "http://127.0.0.1:8080/wechat/push.",
    ),
]
PushInterval = Annotated[
    float, typer.Option("--push-every", min=0.001, metavar="SECONDS", help="Seconds between two tickets.")
]

Yes = Annotated[bool, _confirmation_option("--yes", help="Skip the confirmation.")]
OwnToken = Annotated[
    bool,
    _confirmation_option(
        "--own-token",
        help="Allow fetching a new token from a platform that is not on this machine; it may invalidate the current "
        "one.",
    ),
]
AsJson = Annotated[bool, _output_option("--json", help="Print one JSON document.")]
Reveal = Annotated[bool, _output_option("--reveal", help="Print the token instead of ***.")]


class PlainHelpCommand(TyperCommand):
    """Command with a plain help page of at most 80 columns; many options are grouped by their `rich_help_panel`.

    The panels of typer need rich, which adds 40 percent to the time of `--help`.
    """

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        parameters = self.get_params(ctx)
        # A hidden parameter has no record.
        records = [(each, record) for each in parameters if (record := each.get_help_record(ctx))]
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter, (name, description) in records:
            panel = getattr(parameter, "rich_help_panel", None) if len(records) > _GROUPING_THRESHOLD else None
            heading, shown_name = panel or "Options", name
            if parameter.param_type_name == "argument":
                # click would add braces to the name of a required argument, which the usage line does not show.
                heading, shown_name = "Arguments", parameter.metavar or name
            groups.setdefault(heading, []).append((shown_name, description))
        for heading, lines in groups.items():
            with formatter.section(heading):
                formatter.write_dl(lines)
