"""CSV report: a table for spreadsheets, with one row per tenant."""

from __future__ import annotations

import csv
import io
import re
from typing import Final

from wxtcb.provision.error_policy import CHINA_TIMEZONE
from wxtcb.provision.report import Report

__all__ = ["render_csv"]

_LEADING_COLUMNS: Final = ("tenant", "alias", "outcome", "env", "tranid", "done", "services", "unconfirmed", "links")
_COLUMNS: Final = (*_LEADING_COLUMNS, "existing", "summary")
_RUN_INFO_COLUMNS: Final = ("created_at", "base_url", "component_appid", "namespace")

# Control and format characters (such as U+200B, U+FEFF and U+00AD), which spreadsheets ignore like blanks
_INVISIBLE: Final = (
    r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0001-\U000e007f"
)
# A spreadsheet runs a cell as a formula if it begins with one of these signs, also in full-width form or after blanks.
_SIGN: Final = r"[=+\-@\uff1d\uff0b\uff0d\uff20]"
_FORMULA: Final = rf"[\t\r\n]|[\s{_INVISIBLE}]*{_SIGN}"
# Where `;`, tab or another sign separates columns, a spreadsheet splits each cell there, and what follows is a cell of
# its own. The lookahead stops at the next separator, so that the search needs linear time.
_HIDDEN_FORMULA: Final = re.compile(rf"(?<=[;,|\t\r\n])(?=(?:[^\S\t\r\n]|[{_INVISIBLE}\"])*{_SIGN})")
# More than 11 digits are shown in exponential form, leading zeros are dropped, and "1e5" becomes a number.
_NUMBER: Final = r"\d{12,}$|0\d+$|\d[\d.]*e[+-]?\d+$|(?:true|false)$"
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
# "3-1" and "mar1" become dates.
_DATE: Final = rf"\d+[.,:/ -][\d.,:/ -]*$|\d+[/ -]?{_MONTH}[\d/ -]*$|{_MONTH}[/ -]?\d[\d,/ -]*$"
_NEEDS_APOSTROPHE: Final = re.compile(f"{_FORMULA}|{_NUMBER}|{_DATE}", re.IGNORECASE)
_MAX_CELL_LENGTH: Final = 32_767  # of Excel, which drops the rest of a longer cell


def render_csv(report: Report) -> str:
    """Return *report* as CSV: a header, then one row per tenant, including links. Lines end in CR LF.

    All cells are quoted. Several values in a cell are separated by ``;``, and links by a line break. A cell that a
    spreadsheet would run or change begins with an apostrophe. So does what would be a formula behind a ``;``, ``,``,
    ``|``, tab or line break. A cell is truncated to 32,767 characters. `created_at` is in China time.
    Write it with ``encoding="utf-8-sig", newline=""``: without the byte order mark, Excel does not read UTF-8, and
    without `newline` some systems change the line ends.
    """
    metadata_names = tuple(dict.fromkeys(name for entry in report.tenants for name in entry.metadata))
    info = report.run_info
    run_info = (info.base_url, info.component_appid, info.namespace) if info else ("", "", "")
    output = io.StringIO(newline="")
    writer = csv.writer(output, quoting=csv.QUOTE_ALL)
    header = (*_COLUMNS, *(f"metadata {name}" for name in metadata_names), *_RUN_INFO_COLUMNS)
    writer.writerow(map(_escape_cell, header))
    for entry in report.tenants:
        cells = (
            *(entry.tenant, entry.alias, entry.outcome.value, entry.env or "", entry.tranid or ""),
            *map(";".join, (entry.done, entry.services, entry.unconfirmed)),
            "\n".join(f"{link.appid} {link.url}" for link in entry.links),
            ";".join(entry.existing),
            entry.summary,
            *(entry.metadata.get(name, "") for name in metadata_names),
            *(report.created_at.astimezone(CHINA_TIMEZONE).isoformat(), *run_info),
        )
        writer.writerow(map(_escape_cell, cells))
    return output.getvalue()


def _escape_cell(value: str) -> str:
    text = _HIDDEN_FORMULA.sub("'", f"'{value}" if _NEEDS_APOSTROPHE.match(value) else value)
    return text if len(text) <= _MAX_CELL_LENGTH else f"{text[: _MAX_CELL_LENGTH - 1]}…"
