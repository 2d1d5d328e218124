"""The wire: bodies to JSON, JSON to replies, and the errcode envelope around them.

A value of None is never sent, and nothing else is ever left out. What fields a reply may have:
`wxtcb._protocol.converter`.
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

from wxtcb._protocol.converter import SLICE_SIZE, describe_error, structure_hook, structure_lists_in_slices
from wxtcb._protocol.endpoint import Credential, Endpoint, Reply, attach_metadata
from wxtcb._protocol.errcodes import api_error
from wxtcb._protocol.fields import Encoded, wire_fields
from wxtcb.errors import ApiError, BadReply, InvalidArgument
from wxtcb.secret import Secret, redact
from wxtcb.validation import check_mapping

R = TypeVar("R", bound=Reply)

LARGE_REPLY_BYTES: Final = 64 * 1024

_RID = re.compile(r"\brid:\s*([0-9A-Za-z-]+)")
_BOM = b"\xef\xbb\xbf"
_UNRESERVED: Final = re.compile(r"[\w.~-]*", re.ASCII)
_MAX_EXCERPT_BYTES: Final = 4096
_REASON_FIELDS: Final = ("errmsg", "errormsg", "result")
_SCALAR_TYPES: Final = frozenset({str, int, bool})


@attrs.frozen(repr=False)
class RequestBody:
    """The bytes of a request and the secrets in them; its repr shows the size alone."""

    data: bytes
    secrets: tuple[Secret, ...] = ()

    def __repr__(self) -> str:
        return f"<body of {len(self.data)} bytes>"


def encode_body(body: Mapping[str, object] | bytes, *, endpoint: str) -> RequestBody:
    """Write a request body; `InvalidArgument` if something in it has no place in JSON."""
    if isinstance(body, bytes):
        return RequestBody(body)
    if type(body) is not dict:
        check_mapping(f"{endpoint}: the body", body)
    secrets: list[Secret] = []
    try:
        return RequestBody(
            orjson.dumps(_mapping_to_json(body, secrets), option=orjson.OPT_PASSTHROUGH_DATACLASS), tuple(secrets)
        )
    except (orjson.JSONEncodeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise InvalidArgument(f"{endpoint}: the body cannot be written as JSON: {reason}", endpoint=endpoint)


def add_action(action: str, body: Mapping[str, object] | bytes) -> Mapping[str, object]:
    """Return *body* with its action; one that names another, or may do so unseen, is refused."""
    check_mapping(f"the body of action {action!r}", body)
    body = cast("Mapping[str, object]", body)
    check_action(action, body, "body")
    return {"action": action, **body}


def check_action(action: str, fields: Mapping[str, object], location: str) -> None:
    """Refuse fields that name another action, for what may be repeated hangs on it."""
    if (named := fields.get("action", action)) != action:
        raise InvalidArgument(f"the {location}'s action must be {action!r}, not {named!r}; nothing was sent")


def _mapping_to_json(body: Mapping[str, object], secrets: list[Secret]) -> dict[str, object]:
    fields = {}
    for key, value in body.items():
        if value is not None:
            fields[key] = value if type(value) in _SCALAR_TYPES else _to_json(value, secrets)
    return fields


def _to_json(value: object, secrets: list[Secret]) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    if isinstance(value, Secret):
        secrets.append(value)
        return value.reveal()
    if isinstance(value, list | tuple):
        if None in value:
            raise ValueError("a list holds None, which is never sent")
        return [_to_json(each, secrets) for each in value]
    if isinstance(value, Encoded):
        return _to_wire_format(value, secrets)
    if attrs.has(type(value)):
        value = wire_fields(cast("attrs.AttrsInstance", value))
    return _mapping_to_json(value, secrets) if isinstance(value, Mapping) else value


def _to_wire_format(encoded: Encoded, secrets: list[Secret]) -> object:
    known = len(secrets)
    made = encoded.wire_format.encode(_to_json(encoded.value, secrets))
    secrets += [json_escaped(secret) for secret in secrets[known:]]
    return made


def json_escaped(secret: Secret) -> Secret:
    """Return *secret* as it stands in JSON that is a text in JSON."""
    return Secret(orjson.dumps(secret.reveal())[1:-1].decode())


def read_reply(endpoint: Endpoint[R], data: bytes, secrets: tuple[Secret, ...] = ()) -> R | ApiError | BadReply:
    """Read the body of an HTTP 200: the typed reply, the error its errcode stands for, or why it is neither.

    Nothing of the body is quoted but errmsg and the beginning of a page that is no JSON, with the values of *hide*
    blotted out; so they are of the reasons of a batch's failures.
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
    """Read as `read_reply` does, and let others have a turn on the loop between slices of the work."""
    await asyncio.sleep(0)
    fields = _parse_envelope(endpoint, data, secrets)
    if not isinstance(fields, dict):
        return fields
    done = SLICE_SIZE
    reading = structure_lists_in_slices(cast("type[attrs.AttrsInstance]", endpoint.reply), fields)
    for more in chain(_redact_reasons(endpoint, fields, secrets), reading):
        done += more
        if done >= SLICE_SIZE:
            await asyncio.sleep(0)
            done = 0
    await asyncio.sleep(0)
    return _structure_reply(endpoint, fields, data)


def _parse_envelope(
    endpoint: Endpoint[Reply], data: bytes, secrets: tuple[Secret, ...]
) -> dict[str, object] | ApiError | BadReply:
    """Return the JSON object of a success, or the error that stands in its place."""
    try:
        fields = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        return _bad_reply(endpoint, _describe_json_error(endpoint, data, error, secrets))
    if not isinstance(fields, dict):
        return _bad_reply(endpoint, f"the reply is a JSON {type(fields).__name__}, not an object")
    errcode = fields.get("errcode", 0)
    if type(errcode) is not int:
        return _bad_reply(endpoint, "the reply's errcode is not a number")
    if errcode != 0:
        return _make_api_error(endpoint, errcode, fields.get("errmsg"), secrets)
    return fields


def _redact_reasons(endpoint: Endpoint[Reply], fields: dict[str, object], secrets: tuple[Secret, ...]) -> Iterator[int]:
    """Blot the values of *hide* out of what the platform says of a failure, or of each of a batch's.

    It may repeat the request there. Stops for a breath after every `SLICE` entries, and tells how many they were.
    """
    if endpoint.reply.failed is Reply.failed:
        return
    lists = [value for value in fields.values() if isinstance(value, list)]
    entries = (each for entries in ([fields], *lists) for each in entries if isinstance(each, dict))
    for number, entry in enumerate(entries, 1):
        for name in _REASON_FIELDS:
            if isinstance(reason := entry.get(name), str):
                entry[name] = redact(reason, *secrets)
        if number % SLICE_SIZE == 0:
            yield SLICE_SIZE


def _structure_reply(endpoint: Endpoint[R], fields: dict[str, object], data: bytes) -> R | BadReply:
    try:
        reply: R = structure_hook(endpoint.reply)(fields, endpoint.reply)
    except Exception as error:
        return _bad_reply(
            endpoint, "; ".join(cattrs.transform_error(error, format_exception=describe_error)), permanent=True
        )
    return attach_metadata(reply, raw=data if reply.keeps_raw else None)


def _bad_reply(endpoint: Endpoint[Reply], reason: str, *, permanent: bool = False) -> BadReply:
    return BadReply(reason, endpoint=endpoint.path, status=200, permanent=permanent)


def check_reply_class(endpoint: Endpoint[Reply]) -> None:
    """Refuse an endpoint whose reply class has fields that no JSON value can be read into."""
    try:
        structure_hook(endpoint.reply)
    except cattrs.StructureHandlerNotFoundError as error:
        reason = str(error)
    else:
        return
    raise InvalidArgument(f"{endpoint.path}: {endpoint.reply.__name__} cannot be read from JSON: {reason}")


def _make_api_error(endpoint: Endpoint[Reply], errcode: int, errmsg: object, secrets: tuple[Secret, ...]) -> ApiError:
    text = redact(errmsg, *secrets) if isinstance(errmsg, str) else ""
    found = _RID.search(text)
    tokenless = endpoint.credential is Credential.NONE
    return api_error(errcode, text, endpoint=endpoint.path, rid=found and found[1], without_token=tokenless)


def _describe_json_error(
    endpoint: Endpoint[Reply], data: bytes, error: orjson.JSONDecodeError, secrets: tuple[Secret, ...]
) -> str:
    if not data:
        return "the reply is empty"
    return f"the reply is not JSON (line {error.lineno}, column {error.colno}): {excerpt(endpoint, data, secrets)}"


def excerpt(endpoint: Endpoint[Reply], data: bytes, secrets: tuple[Secret, ...]) -> str:
    """Quote the beginning of a page that is no reply, without tags and without the values of *hide*.

    Only the size is told of what may hold a secret that cannot be blotted out: a new token in a page that is, or holds,
    JSON or answers a call whose reply is secret; a secret that could stand there escaped.
    """
    size = f"{len(data)} bytes"
    if not endpoint.reply.keeps_raw or not all(_UNRESERVED.fullmatch(secret.reveal()) for secret in secrets):
        return size
    margin = 6 * max((len(secret.reveal()) for secret in secrets), default=0)
    head = redact(data[: _MAX_EXCERPT_BYTES + margin].decode(errors="replace"), *secrets)
    if len(data) > _MAX_EXCERPT_BYTES + margin:
        head = head[: len(head) - margin]  # a secret that was cut through is in there
    text = " ".join(re.sub(r"<[^>]*>", " ", head).split())
    return size if "{" in text or "[" in text else f"{size}, {text[:120]!r}"


def raw(reply: Reply) -> Mapping[str, object]:
    """Return the JSON object that *reply* was read from; for fields that wxtcb does not know.

    Raises `InvalidArgument` for a reply that was not read from the platform.
    """
    data = getattr(reply, "_raw", None)
    if data is None:
        raise InvalidArgument(f"this {type(reply).__name__} was not read from a reply of the platform")
    return cast("Mapping[str, object]", orjson.loads(data.removeprefix(_BOM)))
