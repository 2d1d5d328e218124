"""A `Record` as the JSON text that a journal keeps, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import eq
from typing import Final

import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn

from wxtcb.provision.journal import NO_SERVICES, NOTHING, Intent, Record, ServiceState

_STATES: Final = {state.value: state for state in ServiceState}


def write(record: Record) -> str:
    """Return it as JSON; `ValueError` if it holds what JSON has no place for."""
    try:
        return orjson.dumps(_to_json(record)).decode()
    except orjson.JSONEncodeError as error:
        reason = str(error)
    raise ValueError(reason)


def read(document: bytes | str) -> Record:
    """Return the record that `write` wrote; an exception of whatever kind if it was written by anything else."""
    record: Record = _from_json(orjson.loads(document), Record)
    return record


def _texts(found: Mapping[str, str], _: object) -> Mapping[str, str]:
    return found or NOTHING


def _services(found: Mapping[str, str], _: object) -> Mapping[str, ServiceState]:
    return {name: _STATES[state] for name, state in found.items()} if found else NO_SERVICES


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    for mapping, hook in ((Mapping[str, str], _texts), (Mapping[str, ServiceState], _services)):
        converter.register_structure_hook_func(partial(eq, mapping), hook)
    for kind in (Intent, Record):
        reader = make_dict_structure_fn(
            kind, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False
        )
        converter.register_structure_hook(kind, reader)
    return converter


_CONVERTER: Final = _converter()
_to_json: Final = _CONVERTER.get_unstructure_hook(Record)
_from_json: Final = _CONVERTER.get_structure_hook(Record)
