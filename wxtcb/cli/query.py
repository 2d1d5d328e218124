"""What a call sends in its query, as the command line gives it: NAME=VALUE, for all of the machine to read."""

from __future__ import annotations

from collections.abc import Sequence

from wxtcb.cli.body import is_secret_field
from wxtcb.errors import InvalidArgument
from wxtcb.validation import is_valid_unicode


def read_query(arguments: Sequence[str]) -> dict[str, str]:
    """Read one NAME=VALUE after the other.

    Raises `InvalidArgument` for what is none, comes twice, or is secret; the value of a secret is not quoted.
    """
    query: dict[str, str] = {}
    for pair in arguments:
        name, _, value = pair.partition("=")
        if is_secret_field(name):
            raise InvalidArgument(
                f"--query: {name} is secret, and every program of this machine can read an argument; nothing was sent"
            )
        if not name or not value or not is_valid_unicode(pair):
            raise InvalidArgument(f"--query must be NAME=VALUE in proper Unicode, not {pair!r}; nothing was sent")
        if name in query:
            raise InvalidArgument(f"--query: {name} is given twice; nothing was sent")
        query[name] = value
    return query
