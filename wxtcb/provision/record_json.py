"""JSON form of a record, as journals store it. Fields with their default value are left out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import eq
from typing import Final

import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from wxtcb.provision.journal import UnserializableRecord
from wxtcb.provision.record import (
    EMPTY_MAPPING,
    NO_SERVICES,
    HistoryEntry,
    Intent,
    ServiceState,
    TenantRecord,
)

__all__ = ["dump_entry", "dump_record", "load_record"]


def dump_entry(record: TenantRecord, entry: HistoryEntry) -> tuple[str, str]:
    """Return a record as JSON, and the line of its history; raise `UnserializableRecord` if one cannot be stored."""
    try:
        document, line = dump_record(record), entry.to_line()
        # Raises for lone surrogates, which no storage accepts.
        line.encode()
    except (ValueError, orjson.JSONEncodeError) as error:
        problem = f"the record of tenant {record.tenant!r} cannot be stored: {error}"
        raise UnserializableRecord(f"{problem}; use only text that UTF-8 can encode") from error
    return document, line


def dump_record(record: TenantRecord) -> str:
    """Return a record as JSON; raise `orjson.JSONEncodeError` if it contains a value that JSON cannot hold."""
    return orjson.dumps(_unstructure_record(record)).decode()


def load_record(document: bytes | str) -> TenantRecord:
    """Return the record that `dump_record` wrote; raise any exception if the document is malformed."""
    record: TenantRecord = _structure_record(orjson.loads(document), TenantRecord)
    return record


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    # Registered by predicate: `register_structure_hook` dispatches on classes, and these are generic aliases.
    # One shared mapping for all empty ones: 10,000 records have three of them each.
    converter.register_structure_hook_func(partial(eq, Mapping[str, str]), lambda raw, _: raw or EMPTY_MAPPING)
    converter.register_structure_hook_func(
        partial(eq, Mapping[str, ServiceState]),
        lambda raw, _: {name: _SERVICE_STATES[state] for name, state in raw.items()} if raw else NO_SERVICES,
    )
    make_hook = partial(make_dict_structure_fn, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False)
    converter.register_structure_hook(Intent, make_hook(Intent, converter))
    # Journals of earlier versions store `metadata` under the key "marks".
    metadata = override(rename="marks")
    structure = make_hook(TenantRecord, converter, metadata=metadata)
    converter.register_structure_hook(TenantRecord, structure)
    unstructure = make_dict_unstructure_fn(TenantRecord, converter, _cattrs_omit_if_default=True, metadata=metadata)
    converter.register_unstructure_hook(TenantRecord, unstructure)
    return converter


_SERVICE_STATES: Final = {state.value: state for state in ServiceState}
_CONVERTER: Final = _make_converter()
_unstructure_record: Final = _CONVERTER.get_unstructure_hook(TenantRecord)
_structure_record: Final = _CONVERTER.get_structure_hook(TenantRecord)
