"""What the commands can be told, each in one place: the same words mean the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand

from wxtcb.api import endpoints

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter, Parameter


_GROUPING_THRESHOLD: Final = 8


class PlainHelpCommand(TyperCommand):
    """A command whose options, if they are many, stand under the headings of their `rich_help_panel`."""

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        parameters = self.get_params(ctx)
        records = ((parameter, record) for parameter in parameters if (record := parameter.get_help_record(ctx)))
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter, (name, told) in records:
            heading, shown = _heading_and_name(parameter, name, grouped=len(parameters) > _GROUPING_THRESHOLD)
            groups.setdefault(heading, []).append((shown, told))
        for heading, lines in groups.items():
            with formatter.section(heading):
                formatter.write_dl(lines)


def _heading_and_name(parameter: Parameter, name: str, *, grouped: bool) -> tuple[str, str]:
    """Return the heading and the name of a parameter; an argument's type is seen from its name."""
    if parameter.param_type_name == "argument":
        return "Arguments", parameter.metavar or name
    panel = getattr(parameter, "rich_help_panel", None) if grouped else None
    return panel or "Options", name


def complete_endpoint_name(incomplete: str) -> Iterator[str]:
    """Offer the names of the calls."""
    return (endpoint.name for endpoint in endpoints() if endpoint.name.startswith(incomplete))


def complete_body_file(incomplete: str) -> Iterator[str]:
    """Offer files behind an @; what stands there without one is JSON."""
    if incomplete.startswith("@"):
        folder, slash, start = incomplete[1:].rpartition("/")
        for path in sorted(Path(folder + slash).glob("*")):
            if path.name.startswith(start):
                yield f"@{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def join_at_sign_words(environ: MutableMapping[str, str]) -> None:
    """Put an @ and what stands behind it together again: bash counts them as two words."""
    words = environ.get("COMP_WORDS", "")
    if (parted := "\n@\n") in words:
        environ["COMP_WORDS"] = words.replace(parted, "\n@")
        environ["COMP_CWORD"] = str(int(environ["COMP_CWORD"]) - words.count(parted))


EXECUTION_PANEL: Final = "Pace"
CONFIRMATION_PANEL: Final = "Permission"
OUTPUT_PANEL: Final = "Output"

TenantsFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Tenants: .csv, .toml, .jsonl or .ndjson.", show_default=False)
]
CallName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The call, as `wxtcb endpoints` names it.",
        show_default=False,
        autocompletion=complete_endpoint_name,
    ),
]
CallBody = Annotated[
    str,
    typer.Argument(
        metavar="JSON | @FILE | -",
        help="Its body, a JSON object: as it is, in a file, or on standard input; {} if none is given.",
        show_default=False,
        autocompletion=complete_body_file,
    ),
]
CallQuery = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        metavar="NAME=VALUE",
        help="What the call sends in its query beside the token; may be repeated.",
        show_default=False,
    ),
]
ShowExample = Annotated[
    bool, typer.Option("--example", help="Print the documented request, and beside it the reply; send nothing.")
]

UseSandbox = Annotated[bool, typer.Option("--sandbox", help="Run against a simulated platform; never asks.")]
JournalPath = Annotated[
    Path | None,
    typer.Option(
        "--journal", metavar="PATH", help="Where the journal is: FILE.wxtcb.db if not given.", show_default=False
    ),
]

Concurrency = Annotated[
    int, typer.Option(min=1, metavar="N", help="Steps taken at a time.", rich_help_panel=EXECUTION_PANEL)
]
ReadyTimeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=0.001,
        metavar="SECONDS",
        help="How long an environment may take to be NORMAL.",
        rich_help_panel=EXECUTION_PANEL,
    ),
]
MaxFailures = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Start no other tenant after so many failed.",
        show_default=False,
        rich_help_panel=EXECUTION_PANEL,
    ),
]

Settle = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="How long after an unclear create a look shows what it did (120, in the sandbox 2).",
        show_default=False,
        rich_help_panel=EXECUTION_PANEL,
    ),
]

Adopt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENANT=ENV",
        help="Let a tenant have an environment that is there; may be repeated.",
        show_default=False,
    ),
]
Forget = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TENANT=ENV",
        help="Forget an environment that was deleted on purpose; may be repeated.",
        show_default=False,
    ),
]
Removed = Annotated[
    bool,
    typer.Option("--removed", help="Tenants of the journal that FILE lacks were removed, none was renamed."),
]
ResendLinks = Annotated[bool, typer.Option("--resend-links", help="Ask again for links that were given already.")]

Seed = Annotated[
    int | None,
    typer.Option(metavar="N", help="Make up the same credentials, and the rest, each time.", show_default=False),
]
PushUrl = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="URL",
        help="Push tickets there, on this machine; `wxtcb ticket serve` takes them at "
        "http://127.0.0.1:8080/wechat/push.",
        show_default=False,
    ),
]
PushInterval = Annotated[
    float, typer.Option("--push-every", min=0.001, metavar="SECONDS", help="Seconds from one ticket to the next.")
]

Yes = Annotated[
    bool, typer.Option("--yes", help="Do not ask before what adds something.", rich_help_panel=CONFIRMATION_PANEL)
]
OwnToken = Annotated[
    bool,
    typer.Option(
        "--own-token",
        help="Fetch a token also of a platform that is not on this machine.",
        rich_help_panel=CONFIRMATION_PANEL,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=OUTPUT_PANEL)]
ReportPaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--report",
        metavar="PATH",
        help="Write the report there too, as its ending says: .html (a page), .csv or .json; may be repeated.",
        show_default=False,
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Reveal = Annotated[
    bool, typer.Option("--reveal", help="Print the token itself, not ***.", rich_help_panel=OUTPUT_PANEL)
]
