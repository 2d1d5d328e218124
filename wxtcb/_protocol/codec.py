"""Codec of whole messages: a call to the bytes of its request, and the bytes of a response to a reply or an error.

`encode_request` does everything that precedes sending: it checks the call, adds the action, and writes the body.
`read_reply` does everything that follows: it parses the envelope with errcode and errmsg, and structures the rest as
the reply class of the endpoint. Neither does I/O. None is never sent, and nothing else is ever left out of a body.
Parsed JSON becomes a reply class in `wxtcb._protocol.structuring`. `wxtcb._protocol.fields` has the names and formats
of fields.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final, TypeVar, cast

import attrs
import cattrs
import orjson

from wxtcb._protocol.endpoint import Credential, Endpoint, Reply, attach_metadata
from wxtcb._protocol.errcodes import api_error
from wxtcb._protocol.fields import Encoded, wire_fields
from wxtcb._protocol.structuring import SLICE_SIZE, describe_error, structure_hook, structure_lists_in_slices
from wxtcb.errors import ApiError, BadReply, InvalidArgument
from wxtcb.secret import Secret, redact
from wxtcb.validation import check_mapping, check_query

R = TypeVar("R", bound=Reply)

# A response above this size is read by `read_large_reply`. Up to it, reading takes about a millisecond.
LARGE_REPLY_BYTES: Final = 64 * 1024

# WeChat writes the request id at the end of errmsg: "invalid args rid: 5f9a-3c".
_RID: Final = re.compile(r"\brid:\s*([0-9A-Za-z-]+)")
# Some gateways put a byte order mark before the JSON, which orjson does not accept.
_BOM: Final = b"\xef\xbb\xbf"
# A secret of these characters alone is written unchanged by every escape (JSON, HTML, URL).
_UNRESERVED: Final = re.compile(r"[\w.~-]*", re.ASCII)
_MAX_EXCERPT_BYTES: Final = 4096
# The fields of a batch's entries in which the platform describes a failure; it may quote the request there.
_REASON_FIELDS: Final = ("errmsg", "errormsg", "result")
# Values that need no conversion. Checked by exact type, because that is the fastest check of the usual case.
_SCALAR_TYPES: Final = frozenset({str, int, bool})


@attrs.frozen(repr=False)
class RequestBody:
    """The bytes of a request body and the secrets in them; the repr shows only the size."""

    data: bytes
    secrets: tuple[Secret, ...] = ()

    def __repr__(self) -> str:
        return f"<body of {len(self.data)} bytes>"


def encode_request(
    endpoint: Endpoint[Reply], body: Mapping[str, object] | bytes, query: Mapping[str, str] | None = None
) -> tuple[RequestBody, Mapping[str, str] | None]:
    """Check a call, add its action to body and query, and return both as they are sent.

    Raises `InvalidArgument` for a reply class that cannot be read from JSON, a query that is not a mapping from strings
    to strings, another action than that of the endpoint, and a body that cannot be written as JSON. A body of bytes is
    sent unchanged; it is rejected if the endpoint has an action.
    """
    path, action = endpoint.path, endpoint.action
    try:
        # Checked before sending: a create whose reply cannot be read would take effect, but its id would be lost.
        # The hook is cached, so that all calls but the first pay for a dictionary lookup.
        structure_hook(endpoint.reply)
    except cattrs.StructureHandlerNotFoundError as error:
        raise InvalidArgument(
            f"{path}: {endpoint.reply.__name__} cannot be read from JSON: {error}", endpoint=path
        ) from error
    if query is not None:
        check_query(f"{path}: the query", query)
    if action is None:
        return encode_body(body, endpoint=path), query
    # The idempotency of the endpoint is that of its action. Under another action, a read that is retried could be an
    # insert. The action cannot be seen in bytes.
    check_mapping(f"{path}: the body of action {action!r}", body)
    for location, fields in (("query", query or {}), ("body", cast("Mapping[str, object]", body))):
        if (other := fields.get("action", action)) != action:
            raise InvalidArgument(
                f"{path}: the {location}'s action must be {action!r}, not {other!r}; no request was sent", endpoint=path
            )
    return encode_body(body, endpoint=path, action=action), {**(query or {}), "action": action}


def encode_body(body: Mapping[str, object] | bytes, *, endpoint: str, action: str | None = None) -> RequestBody:
    """Write *body*, with *action* as its first field, as JSON; bytes are returned unchanged.

    Values of None are left out at every depth, except in lists. Values of attrs classes are written by their wire
    names and formats. Raises `InvalidArgument` for a value that JSON cannot represent.
    """
    if isinstance(body, bytes):
        return RequestBody(body)
    # A dict, the usual case, passes without the slower check for the abstract class.
    if type(body) is not dict:
        check_mapping(f"{endpoint}: the body", body)
    secrets: list[Secret] = []
    try:
        # One expression: a local variable with the revealed secrets would be visible in the frame of the error below.
        # orjson would write a dataclass with its None values, so it is rejected instead.
        return RequestBody(
            orjson.dumps(_mapping_to_json(body, secrets, action), option=orjson.OPT_PASSTHROUGH_DATACLASS),
            tuple(secrets),
        )
    except (orjson.JSONEncodeError, ValueError, RecursionError) as error:
        reason = str(error)
    # Outside of `except`, so without a cause: the frames of the cause contain the revealed secrets.
    raise InvalidArgument(f"{endpoint}: the body cannot be written as JSON: {reason}", endpoint=endpoint)


def _mapping_to_json(
    mapping: Mapping[str, object], secrets: list[Secret], action: str | None = None
) -> dict[str, object]:
    fields: dict[str, object] = {} if action is None else {"action": action}
    for key, value in mapping.items():
        if value is not None:
            fields[key] = value if type(value) in _SCALAR_TYPES else _to_json(value, secrets)
    return fields


def _to_json(value: object, secrets: list[Secret]) -> object:
    """Return *value* as orjson can write it, and append its secrets to *secrets*."""
    if isinstance(value, str | int):
        return value
    # orjson would write null.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    if isinstance(value, Secret):
        secrets.append(value)
        return value.reveal()
    if isinstance(value, list | tuple):
        # Leaving it out would move the entries that follow it.
        if None in value:
            raise ValueError("a list contains None, which is never sent")
        return [_to_json(entry, secrets) for entry in value]
    if isinstance(value, Encoded):
        known = len(secrets)
        encoded = value.wire_format.encode(_to_json(value.value, secrets))
        # In JSON inside a string, a secret is escaped once more than in plain JSON.
        secrets += [json_escaped(secret) for secret in secrets[known:]]
        return encoded
    if attrs.has(type(value)):
        value = wire_fields(cast("attrs.AttrsInstance", value))
    # Anything else goes to orjson, which rejects what it does not know.
    return _mapping_to_json(value, secrets) if isinstance(value, Mapping) else value


def json_escaped(secret: Secret) -> Secret:
    """Return *secret* as it is written in JSON."""
    return Secret(orjson.dumps(secret.reveal())[1:-1].decode())


def read_reply(endpoint: Endpoint[R], data: bytes, secrets: tuple[Secret, ...] = ()) -> R | ApiError | BadReply:
    """Read the body of a response with HTTP status 200.

    Returns the typed reply, the error of its errcode, or `BadReply` for a body that is neither. Errors are returned,
    not raised, because the frames of the caller contain the token. The values of *secrets* are redacted from every text
    of the platform that an error may quote: errmsg, the reasons of a batch's failures, and the beginning of a page that
    is not JSON. Nothing else of the body is quoted.
    """
    fields = _parse_envelope(endpoint, data, secrets)
    if not isinstance(fields, dict):
        return fields
    for _ in _redact_reasons(endpoint, fields, secrets):
        pass
    return _structure_reply(endpoint, fields, data)


async def read_large_reply(
    endpoint: Endpoint[R], data: bytes, secrets: tuple[Secret, ...] = ()
) -> R | ApiError | BadReply:
    """Read as `read_reply` does, and let other tasks run after each slice of the work."""
    # A thread would not help: orjson and cattrs hold the GIL.
    await asyncio.sleep(0)
    fields = _parse_envelope(endpoint, data, secrets)
    if not isinstance(fields, dict):
        return fields
    done = SLICE_SIZE
    structuring = structure_lists_in_slices(cast("type[attrs.AttrsInstance]", endpoint.reply), fields)
    for count in chain(_redact_reasons(endpoint, fields, secrets), structuring):
        # Lists of a few entries each are added up to a slice.
        done += count
        if done >= SLICE_SIZE:
            await asyncio.sleep(0)
            done = 0
    await asyncio.sleep(0)
    return _structure_reply(endpoint, fields, data)


def _parse_envelope(
    endpoint: Endpoint[Reply], data: bytes, secrets: tuple[Secret, ...]
) -> dict[str, object] | ApiError | BadReply:
    """Return the JSON object of a success, or the error that the response stands for."""
    try:
        fields = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        if not data:
            return _bad_reply(endpoint, "the reply is empty")
        quoted = excerpt(endpoint, data, secrets)
        return _bad_reply(endpoint, f"the reply is not JSON (line {error.lineno}, column {error.colno}): {quoted}")
    if not isinstance(fields, dict):
        return _bad_reply(endpoint, f"the reply is a JSON {type(fields).__name__}, not an object")
    # Some calls, for instance that of the token, send no errcode with a success.
    errcode = fields.get("errcode", 0)
    if type(errcode) is not int:
        return _bad_reply(endpoint, "the reply's errcode is not an integer")
    if errcode == 0:
        return fields
    errmsg = fields.get("errmsg")
    text = redact(errmsg, *secrets) if isinstance(errmsg, str) else ""
    rid = _RID.search(text)
    return api_error(
        errcode, text, endpoint=endpoint.path, rid=rid and rid[1], without_token=endpoint.credential is Credential.NONE
    )


def _redact_reasons(endpoint: Endpoint[Reply], fields: dict[str, object], secrets: tuple[Secret, ...]) -> Iterator[int]:
    """Redact the reasons of a batch's failures in place; yield `SLICE_SIZE` after as many entries."""
    # Only a class that overrides `failed` quotes reasons in an error.
    if endpoint.reply.failed is Reply.failed:
        return
    lists = [value for value in fields.values() if isinstance(value, list)]
    entries = (entry for entries in ([fields], *lists) for entry in entries if isinstance(entry, dict))
    for count, entry in enumerate(entries, 1):
        for name in _REASON_FIELDS:
            if isinstance(reason := entry.get(name), str):
                entry[name] = redact(reason, *secrets)
        if count % SLICE_SIZE == 0:
            yield SLICE_SIZE


def _structure_reply(endpoint: Endpoint[R], fields: dict[str, object], data: bytes) -> R | BadReply:
    try:
        reply: R = structure_hook(endpoint.reply)(fields, endpoint.reply)
    except Exception as error:
        # Any exception: a reply class of the caller may have validators, and the request has been sent. The lines of
        # cattrs quote no value, so the reply may contain a secret.
        reasons = cattrs.transform_error(error, format_exception=describe_error)
        return _bad_reply(endpoint, "; ".join(reasons), permanent=True)
    return attach_metadata(reply, raw=data if reply.keeps_raw else None)


def _bad_reply(endpoint: Endpoint[Reply], reason: str, *, permanent: bool = False) -> BadReply:
    return BadReply(reason, endpoint=endpoint.path, status=200, permanent=permanent)


def excerpt(endpoint: Endpoint[Reply], data: bytes, secrets: tuple[Secret, ...]) -> str:
    """Return the size and the beginning of a page that is not a reply, without tags and *secrets*.

    Only the size is returned if the page may contain a secret that cannot be redacted: a new token, which is not known
    yet, in anything that resembles JSON or answers a call for a token; or a secret that may be written escaped.
    """
    size = f"{len(data)} bytes"
    if not endpoint.reply.keeps_raw or not all(_UNRESERVED.fullmatch(secret.reveal()) for secret in secrets):
        return size
    # Cutting the page could cut a secret in two, and the first half would not be recognised. So more is read than is
    # kept: a character of a secret takes at most 6 bytes ("\u0041").
    margin = 6 * max((len(secret.reveal()) for secret in secrets), default=0)
    head = redact(data[: _MAX_EXCERPT_BYTES + margin].decode(errors="replace"), *secrets)
    if len(data) > _MAX_EXCERPT_BYTES + margin:
        head = head[: len(head) - margin]
    text = " ".join(re.sub(r"<[^>]*>", " ", head).split())
    return size if "{" in text or "[" in text else f"{size}, {text[:120]!r}"


def raw(reply: Reply) -> Mapping[str, object]:
    """Return the JSON object that *reply* was read from, including fields that wxtcb does not know.

    Raises `InvalidArgument` if *reply* was not read from a response, or contains a secret.
    """
    data = getattr(reply, "_raw", None)
    if data is None:
        reason = "was not read from a reply of the platform" if reply.keeps_raw else "has no JSON: it contains a secret"
        raise InvalidArgument(f"this {type(reply).__name__} {reason}")
    return cast("Mapping[str, object]", orjson.loads(data.removeprefix(_BOM)))
