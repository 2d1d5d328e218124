"""Limits: constants in one place, which the documentation lists with their values."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

import wxtcb
from wxtcb._object_storage.download import MAX_DOWNLOAD_BYTES
from wxtcb._object_storage.response import MAX_BODY_BYTES
from wxtcb._protocol.limits import LIMITS
from wxtcb.api import database, environment, functions
from wxtcb.api._packing import MAX_UNPACKED_BYTES
from wxtcb.api.storage import MAX_FILES_PER_CALL
from wxtcb.tokens.ticket import message

DOCS = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
UNITS = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "characters": 1, "": 1}
ROWS = re.findall(r"^\| `(\w+)` \| ([\d,]+) ?(\w*) \|", DOCS, re.MULTILINE)


def test_documentation_lists_every_limit_with_its_value():
    """No limit is missing, and no value is outdated."""
    documented = {name: int(number.replace(",", "")) * UNITS[unit] for name, number, unit in ROWS}
    assert documented == attrs.asdict(wxtcb.LIMITS)


def test_limits_cannot_be_changed():
    """They are constants, not options."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        wxtcb.LIMITS.reply_bytes = 1


def test_every_module_takes_its_limits_from_there():
    """A second constant with its own value would not follow."""
    assert functions.MAX_ZIP_BYTES is LIMITS.zip_bytes
    assert MAX_UNPACKED_BYTES is LIMITS.unpacked_bytes
    assert MAX_FILES_PER_CALL is LIMITS.files_per_call
    assert MAX_BODY_BYTES is LIMITS.storage_reply_bytes
    assert MAX_DOWNLOAD_BYTES is LIMITS.download_bytes
    assert message.MAX_QUERY_LENGTH is LIMITS.push_query_length
    assert message.MAX_ELEMENTS is LIMITS.push_elements


@pytest.mark.parametrize(
    ("endpoint", "limit"),
    [
        (environment.CREATE_ENV, LIMITS.reply_bytes),
        (environment.DESCRIBE_ENVS, LIMITS.list_reply_bytes),
        (functions.GET_SCF_LIST, LIMITS.list_reply_bytes),
        (functions.INVOKE_CLOUD_FUNCTION, LIMITS.document_reply_bytes),
        (database.DB_RECORD_QUERY, LIMITS.document_reply_bytes),
        (database.DB_AGGREGATE, LIMITS.document_reply_bytes),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_limit_of_a_reply_depends_on_the_endpoint(endpoint, limit):
    """A create has no reason to answer with megabytes; a list and a query have."""
    assert endpoint.max_reply_bytes == limit
