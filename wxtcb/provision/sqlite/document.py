"""A `Record` as the JSON text that a journal keeps, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import eq
from typing import Final

import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from wxtcb.provision.journal import EMPTY_MAPPING, NO_SERVICES, Intent, ServiceState, TenantRecord

_SERVICE_STATES: Final = {state.value: state for state in ServiceState}


def dump_record(record: TenantRecord) -> str:
    """Return it as JSON; `ValueError` if it holds what JSON has no place for."""
    try:
        return orjson.dumps(_unstructure_record(record)).decode()
    except orjson.JSONEncodeError as error:
        reason = str(error)
    raise ValueError(reason)


def load_record(document: bytes | str) -> TenantRecord:
    """Return the record that `dump_record` wrote; an exception of whatever kind if it was written by anything else."""
    record: TenantRecord = _structure_record(orjson.loads(document), TenantRecord)
    return record


def _structure_str_mapping(raw: Mapping[str, str], _: object) -> Mapping[str, str]:
    return raw or EMPTY_MAPPING


def _structure_services(raw: Mapping[str, str], _: object) -> Mapping[str, ServiceState]:
    return {name: _SERVICE_STATES[state] for name, state in raw.items()} if raw else NO_SERVICES


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for mapping, hook in (
        (Mapping[str, str], _structure_str_mapping),
        (Mapping[str, ServiceState], _structure_services),
    ):
        converter.register_structure_hook_func(partial(eq, mapping), hook)
    # Journals of earlier versions store `metadata` under the key "marks".
    metadata = override(rename="marks")
    converter.register_structure_hook(
        Intent,
        make_dict_structure_fn(Intent, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False),
    )
    converter.register_structure_hook(
        TenantRecord,
        make_dict_structure_fn(
            TenantRecord,
            converter,
            _cattrs_forbid_extra_keys=True,
            _cattrs_detailed_validation=False,
            metadata=metadata,
        ),
    )
    converter.register_unstructure_hook(
        TenantRecord, make_dict_unstructure_fn(TenantRecord, converter, metadata=metadata)
    )
    return converter


_CONVERTER: Final = _make_converter()
_unstructure_record: Final = _CONVERTER.get_unstructure_hook(TenantRecord)
_structure_record: Final = _CONVERTER.get_structure_hook(TenantRecord)
