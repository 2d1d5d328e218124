"""Help in plain text of at most 80 columns, in which many options stand in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typer.core import TyperCommand

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
