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
from wxtcb._protocol.limits import LIMITS
from wxtcb._protocol.structuring import SLICE_SIZE, describe_error, structure_hook, structure_lists_in_slices
from wxtcb.errors import ApiError, BadReply, InvalidArgument
from wxtcb.secret import Redactor, Secret, escape_unprintable, redact
from wxtcb.validation import check_mapping, check_query

R = TypeVar("R", bound=Reply)

# A response above this size is read by `read_large_reply`. Up to it, reading takes about a millisecond.
LARGE_REPLY_BYTES: Final = 64 * 1024

# The platform writes the id of the request at the end of errmsg, in one of three forms: "invalid args rid: 5f9a-3c",
# "hint: [Ke0a1234]" and "hints: [ req_id: Ke0a1234 ]".
_RID: Final = re.compile(r"\brid:\s*([0-9A-Za-z-]+)")
_HINT: Final = re.compile(r"\bhints?:\s*\[\s*(?:req_id:\s*)?([^\]\s]{1,64})\s*\]")
_RID_TAIL_LENGTH: Final = 200
# A shorter value, such as that of an environment variable "1", occurs by chance everywhere. Replacing it would make the
# message unreadable, and show where the value is.
_MIN_SECRET_LENGTH: Final = 3
_MAX_KEPT_DEPTH: Final = 8
# Some gateways put a byte order mark before the JSON, which orjson does not accept.
_BOM: Final = b"\xef\xbb\xbf"
# For counting in dense JSON: a quote or backslash written as a number, all bytes but the marks, and the marks of texts
# in a string, of which several may follow each other.
_NUMERIC_ESCAPE: Final = re.compile(rb"\\u00(?:22|5[cC])")
_NO_MARKS: Final = bytes({*range(256)} - {*b'"\0{[,'})
_TEXTS: Final = re.compile(rb'\0[^\0"]*+(?:\0\0[^\0"]*+)*+\0?')
# A secret of these characters alone is written unchanged by every escape (JSON, HTML, URL).
_UNRESERVED: Final = re.compile(r"[\w.~-]*", re.ASCII)
# The fields of a batch's entries in which the platform describes a failure; it may quote the request there.
_REASON_FIELDS: Final = ("errmsg", "errormsg", "result")
# Values that need no conversion. Checked by exact type, because that is the fastest check of the usual case.
_SCALAR_TYPES: Final = frozenset({str, int, bool})


@attrs.frozen(repr=False)
class RequestBody:
    """The bytes of a request body and the secrets in them; the repr shows only the size."""

    # `repr=False`, because rich, which prints the locals of tracebacks, shows the fields instead of the repr.
    data: bytes = attrs.field(repr=False)
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
    # Compared here as well, because most replies need no generator.
    if endpoint.reply.failed is not Reply.failed:
        for _ in _redact_reasons(endpoint, fields, secrets):
            pass
    return _structure_reply(endpoint, fields, data, secrets)


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
    return _structure_reply(endpoint, fields, data, secrets)


def _parse_envelope(
    endpoint: Endpoint[Reply], data: bytes, secrets: tuple[Secret, ...]
) -> dict[str, object] | ApiError | BadReply:
    """Return the JSON object of a success, or the error that the response stands for."""
    if len(data) > LARGE_REPLY_BYTES and (reason := _too_dense(data)):
        return _bad_reply(endpoint, reason, permanent=True)
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
        reply = _kept_reply(endpoint, data, secrets) if errcode in ("0", None) else None
        return _bad_reply(endpoint, "the reply's errcode is not an integer", reply=reply)
    if errcode == 0:
        return fields
    errmsg = fields.get("errmsg")
    redactor = _message_redactor(secrets)
    errmsg = errmsg if isinstance(errmsg, str) else ""
    text = _clean(errmsg, redactor)
    ends = (text, _clean(errmsg[-_RID_TAIL_LENGTH:], redactor))
    rid = next((found[1] for form in (_RID, _HINT) for each in ends if (found := form.search(each))), None)
    return api_error(
        errcode,
        text,
        endpoint=endpoint.path,
        repeat=endpoint.repeat,
        rid=rid,
        without_token=endpoint.credential is Credential.NONE,
    )


def _too_dense(data: bytes) -> str | None:
    """Return why the JSON in *data* is not decoded: 3 bytes such as ``{},`` take 70 in memory, and compress well."""
    containers, values = _count_marks(data)
    if containers > LIMITS.reply_containers or values > LIMITS.reply_values:
        # Counted again, because most of them may be in texts.
        containers, values = _count_marks_outside_texts(data)
    if containers > LIMITS.reply_containers:
        return f"the reply has more than {LIMITS.reply_containers:,} objects and arrays"
    if values > LIMITS.reply_values:
        return f"the reply has more than {LIMITS.reply_values:,} values"
    return None


def _count_marks(data: bytes) -> tuple[int, int]:
    return data.count(b"{") + data.count(b"["), data.count(b",")


def _count_marks_outside_texts(data: bytes) -> tuple[int, int]:
    r"""Return the numbers of opening brackets and of commas, without those in strings of JSON that is in a string.

    The count ends when it exceeds a limit. A string itself counts: a record, for instance, is JSON in a string, and is
    decoded too. Of ``"{\"a\":\"b,c\"}"``, only ``b,c`` is text for certain.
    """
    # A quote that is written as a number would be missed, and everything behind it taken for text.
    if _NUMERIC_ESCAPE.search(data):
        return _count_marks(data)
    # Of the backslashes before a quote, four are one of the text, three belong to a quote in the text, two are the end
    # of the string, and one begins or ends a text. NUL, which JSON does not contain, marks the latter.
    for escaped, mark in ((rb"\\\\", b""), (rb"\\\"", b""), (rb'\\"', b'"'), (rb"\"", b"\0")):
        data = data.replace(escaped, mark)
    data = data.translate(None, _NO_MARKS)
    containers = values = 0
    text_goes_on = False
    # In slices, because every text that is removed takes memory until the end of the removal.
    for start in range(0, len(data), LARGE_REPLY_BYTES):
        marks = text_goes_on * b"\0" + data[start : start + LARGE_REPLY_BYTES]
        text_goes_on = marks[marks.rfind(b'"') + 1 :].count(b"\0") % 2 == 1
        more_containers, more_values = _count_marks(_TEXTS.sub(b"", marks))
        containers, values = containers + more_containers, values + more_values
        if containers > LIMITS.reply_containers or values > LIMITS.reply_values:
            break
    return containers, values


def _message_redactor(secrets: tuple[Secret, ...]) -> Redactor:
    return Redactor(secret for secret in secrets if len(secret.reveal()) >= _MIN_SECRET_LENGTH)


def _clean(text: str, redactor: Redactor) -> str:
    """Return a text of the platform without secrets, on one line, and cut to the limit of an errmsg."""
    limit = LIMITS.errmsg_length
    # Cut before anything else, so that no work depends on the length.
    redacted = redactor(text) if len(text) <= limit else redactor.redact_truncated(text[:limit])
    escaped = escape_unprintable(redacted)
    return escaped if len(text) <= limit and len(escaped) <= limit else f"{escaped[:limit]}…"


def _kept_reply(endpoint: Endpoint[Reply], data: bytes, secrets: tuple[Secret, ...]) -> dict[str, object] | None:
    """Return the JSON of a success that cannot be read, if it may be the only proof of what the call has added.

    *secrets* are redacted. Of a large reply, the fields at the top that are short are returned.
    """
    if not (endpoint.repeat.is_unsafe_to_repeat and endpoint.reply.keeps_raw):
        return None
    redactor = _message_redactor(secrets)
    # Read again, because reading a large reply converts its lists in place.
    fields = cast("dict[str, object]", orjson.loads(data.removeprefix(_BOM)))
    if len(data) <= LIMITS.kept_reply_bytes:
        return cast("dict[str, object]", _redact_json(fields, redactor, _MAX_KEPT_DEPTH))
    kept, size = dict[str, object](), 0
    for name, value in fields.items():
        if isinstance(value, str | int | float | None) and (size := size + len(name) + len(str(value))) <= (
            LIMITS.kept_reply_bytes
        ):
            kept[redactor(name)] = redactor(value) if isinstance(value, str) else value
    return kept


def _redact_json(value: object, redactor: Redactor, depth: int) -> object:
    if isinstance(value, str):
        return redactor(value)
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return "***"
    if isinstance(value, list):
        return [_redact_json(each, redactor, depth - 1) for each in value]
    return {redactor(name): _redact_json(each, redactor, depth - 1) for name, each in value.items()}


def _redact_reasons(endpoint: Endpoint[Reply], fields: dict[str, object], secrets: tuple[Secret, ...]) -> Iterator[int]:
    """Clean the reasons of a batch's failures in place; yield `SLICE_SIZE` after as many entries."""
    # Only a class that overrides `failed` quotes reasons in an error.
    if endpoint.reply.failed is Reply.failed:
        return
    redactor = _message_redactor(secrets)
    lists = [value for value in fields.values() if isinstance(value, list)]
    entries = (entry for entries in ([fields], *lists) for entry in entries if isinstance(entry, dict))
    for count, entry in enumerate(entries, 1):
        for name in _REASON_FIELDS:
            if isinstance(reason := entry.get(name), str):
                entry[name] = _clean(reason, redactor)
        if count % SLICE_SIZE == 0:
            yield SLICE_SIZE


def _structure_reply(
    endpoint: Endpoint[R], fields: dict[str, object], data: bytes, secrets: tuple[Secret, ...]
) -> R | BadReply:
    try:
        reply: R = structure_hook(endpoint.reply)(fields, endpoint.reply)
    except Exception as error:
        # Any exception: a reply class of the caller may have validators, and the request has been sent. The lines of
        # cattrs quote no value, so the reply may contain a secret.
        reasons = cattrs.transform_error(error, format_exception=describe_error)
        return _bad_reply(endpoint, "; ".join(reasons), permanent=True, reply=_kept_reply(endpoint, data, secrets))
    return attach_metadata(reply, raw=data if reply.keeps_raw else None)


def _bad_reply(
    endpoint: Endpoint[Reply], reason: str, *, permanent: bool = False, reply: Mapping[str, object] | None = None
) -> BadReply:
    return BadReply(reason, endpoint=endpoint.path, status=200, permanent=permanent, reply=reply)


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
    head = redact(data[: LIMITS.excerpt_bytes + margin].decode(errors="replace"), *secrets)
    if len(data) > LIMITS.excerpt_bytes + margin:
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
