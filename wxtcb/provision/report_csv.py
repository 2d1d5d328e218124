"""The report as a table for spreadsheets: a row per tenant, and nothing in it that a spreadsheet would carry out."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final

from wxtcb.provision.report import Report, TenantReport

_BEFORE: Final = ("tenant", "alias", "outcome", "env", "tranid", "done", "services", "unconfirmed", "links")
_COLUMNS: Final = (*_BEFORE, "existing", "story")
_ORIGIN: Final = ("made_at", "base_url", "component_appid", "namespace")
_FORMULA: Final = r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]"
_NUMBER: Final = r"\d{12,}$|0\d+$|\d[\d.]*e[+-]?\d+$|(?:true|false)$"
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE: Final = rf"\d+[.,:/ -][\d.,:/ -]*$|\d+[/ -]?{_MONTH}[\d/ -]*$|{_MONTH}[/ -]?\d[\d,/ -]*$"
_MISREAD: Final = re.compile(f"{_FORMULA}|{_NUMBER}|{_DATE}", re.IGNORECASE)
_MOST: Final = 32_767


def make_sheet(report: Report) -> str:
    """Return the table, its header first; see `Report.to_csv`."""
    marks = tuple(dict.fromkeys(name for entry in report.tenants for name in entry.marks))
    origin = (report.made_at.isoformat(), *_origin(report))
    text = io.StringIO(newline="")
    sheet = csv.writer(text, quoting=csv.QUOTE_ALL)
    sheet.writerow(_cell(name) for name in (*_COLUMNS, *(f"mark {name}" for name in marks), *_ORIGIN))
    for entry in report.tenants:
        values = (*_row(entry), *(entry.marks.get(name, "") for name in marks), *origin)
        sheet.writerow(_cell(value) for value in values)
    return text.getvalue()


def _origin(report: Report) -> tuple[str, str, str]:
    if (origin := report.origin) is None:
        return "", "", ""
    return origin.base_url, origin.component_appid, origin.namespace


def _row(entry: TenantReport) -> Iterator[str]:
    yield from (entry.tenant, entry.alias, entry.outcome.value, entry.env or "", entry.tranid or "")
    yield from map(";".join, (entry.done, entry.services, entry.unconfirmed))
    yield "\n".join(f"{link.appid} {link.url}" for link in entry.links)
    yield ";".join(entry.existing)
    yield entry.story


def _cell(value: str) -> str:
    """Return what a spreadsheet takes for text, and for no more of it than it can hold."""
    text = f"'{value}" if _MISREAD.match(value) else value
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
