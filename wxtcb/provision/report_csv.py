"""The report as a table for spreadsheets: a row per tenant, and nothing in it that a spreadsheet would carry out."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final

from wxtcb.provision.report import Report, TenantReport

_LEADING_COLUMNS: Final = ("tenant", "alias", "outcome", "env", "tranid", "done", "services", "unconfirmed", "links")
_COLUMNS: Final = (*_LEADING_COLUMNS, "existing", "story")
_RUN_INFO_COLUMNS: Final = ("made_at", "base_url", "component_appid", "namespace")
_FORMULA: Final = r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]"
_NUMBER: Final = r"\d{12,}$|0\d+$|\d[\d.]*e[+-]?\d+$|(?:true|false)$"
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE: Final = rf"\d+[.,:/ -][\d.,:/ -]*$|\d+[/ -]?{_MONTH}[\d/ -]*$|{_MONTH}[/ -]?\d[\d,/ -]*$"
_NEEDS_APOSTROPHE: Final = re.compile(f"{_FORMULA}|{_NUMBER}|{_DATE}", re.IGNORECASE)
_MAX_CELL_LENGTH: Final = 32_767


def render_csv(report: Report) -> str:
    """Return the table, its header first; see `Report.to_csv`."""
    marks = tuple(dict.fromkeys(name for entry in report.tenants for name in entry.metadata))
    origin = (report.created_at.isoformat(), *_run_info_cells(report))
    text = io.StringIO(newline="")
    sheet = csv.writer(text, quoting=csv.QUOTE_ALL)
    sheet.writerow(_escape_cell(name) for name in (*_COLUMNS, *(f"mark {name}" for name in marks), *_RUN_INFO_COLUMNS))
    for entry in report.tenants:
        values = (*_tenant_cells(entry), *(entry.metadata.get(name, "") for name in marks), *origin)
        sheet.writerow(_escape_cell(value) for value in values)
    return text.getvalue()


def _run_info_cells(report: Report) -> tuple[str, str, str]:
    if (origin := report.run_info) is None:
        return "", "", ""
    return origin.base_url, origin.component_appid, origin.namespace


def _tenant_cells(entry: TenantReport) -> Iterator[str]:
    yield from (entry.tenant, entry.alias, entry.outcome.value, entry.env or "", entry.tranid or "")
    yield from map(";".join, (entry.done, entry.services, entry.unconfirmed))
    yield "\n".join(f"{link.appid} {link.url}" for link in entry.links)
    yield ";".join(entry.existing)
    yield entry.summary


def _escape_cell(value: str) -> str:
    """Return what a spreadsheet takes for text, and for no more of it than it can hold."""
    text = f"'{value}" if _NEEDS_APOSTROPHE.match(value) else value
    return text if len(text) <= _MAX_CELL_LENGTH else f"{text[: _MAX_CELL_LENGTH - 1]}…"
