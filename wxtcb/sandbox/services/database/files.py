"""Records in files: JSON Lines and CSV, both ways."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

import orjson

from wxtcb.sandbox.services.database.values import DatabaseRecord, Value, decode_record, encode_record

__all__ = ["FILE_TYPE_CSV", "FILE_TYPE_JSON", "read_records", "write_records"]

FILE_TYPE_JSON: Final = 1
FILE_TYPE_CSV: Final = 2

_BOM: Final = b"\xef\xbb\xbf"


def read_records(data: bytes, file_type: int) -> Iterator[DatabaseRecord | ValueError]:
    """Give the records of a file one by one; for one that cannot be read, why not."""
    lines = _split_json_lines(data) if file_type == FILE_TYPE_JSON else _csv_to_json_lines(data)
    for line in lines:
        try:
            yield line if isinstance(line, ValueError) else decode_record(line)
        except ValueError as error:
            yield error


def write_records(records: Sequence[DatabaseRecord], file_type: int) -> bytes:
    """Write records into a file."""
    texts = [encode_record(record) for record in records]
    if file_type == FILE_TYPE_JSON:
        return "".join(f"{text}\n" for text in texts).encode()
    rows: list[DatabaseRecord] = [orjson.loads(text) for text in texts]
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _format_cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue().encode()


def _split_json_lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.removeprefix(_BOM).split(b"\n") if line.strip())


def _csv_to_json_lines(data: bytes) -> Iterator[bytes | ValueError]:
    """Give each row as the JSON of its record; the first row holds the keys, an empty cell is left out."""
    try:
        rows = csv.reader(io.StringIO(data.removeprefix(_BOM).decode(), newline=""), strict=True)
        names = next(rows, [])
        for row in rows:
            if row:
                yield _csv_row_to_json(names, row)
    except (UnicodeDecodeError, csv.Error) as error:
        yield ValueError(str(error))


def _csv_row_to_json(names: Sequence[str], row: Sequence[str]) -> bytes | ValueError:
    if len(row) > len(names):
        return ValueError("more cells than keys")
    return orjson.dumps({name: _parse_cell(cell) for name, cell in zip(names, row, strict=False) if cell})


def _parse_cell(cell: str) -> Value:
    """Read a cell as JSON if it is any, else as a text."""
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError:
        return cell


def _format_cell(value: Value) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
