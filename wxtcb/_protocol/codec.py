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

from wxtcb._protocol.converter import SLICE, read_ahead, reader_of, why
from wxtcb._protocol.endpoint import Credential, Endpoint, Reply, mark
from wxtcb._protocol.errcodes import api_error
from wxtcb._protocol.fields import Formed, fields_of
from wxtcb.errors import ApiError, BadReply, InvalidArgument
from wxtcb.secret import Secret, redact
from wxtcb.validation import check_mapping

R = TypeVar("R", bound=Reply)

LARGE: Final = 64 * 1024

_RID = re.compile(r"\brid:\s*([0-9A-Za-z-]+)")
_BOM = b"\xef\xbb\xbf"
_UNESCAPED: Final = re.compile(r"[\w.~-]*", re.ASCII)
_QUOTED: Final = 4096
_REASONS: Final = ("errmsg", "errormsg", "result")
_PLAIN: Final = frozenset({str, int, bool})


@attrs.frozen(repr=False)
class Body:
    """The bytes of a request and the secrets in them; its repr shows the size alone."""

    data: bytes
    secrets: tuple[Secret, ...] = ()

    def __repr__(self) -> str:
        return f"<body of {len(self.data)} bytes>"


def encode(body: Mapping[str, object] | bytes, *, endpoint: str) -> Body:
    """Write a request body; `InvalidArgument` if something in it has no place in JSON."""
    if isinstance(body, bytes):
        return Body(body)
    if type(body) is not dict:
        check_mapping(f"{endpoint}: the body", body)
    secrets: list[Secret] = []
    try:
        return Body(orjson.dumps(_fields(body, secrets), option=orjson.OPT_PASSTHROUGH_DATACLASS), tuple(secrets))
    except (orjson.JSONEncodeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise InvalidArgument(f"{endpoint}: the body cannot be written as JSON: {reason}", endpoint=endpoint)


def with_action(action: str, body: Mapping[str, object] | bytes) -> Mapping[str, object]:
    """Return *body* with its action; one that names another, or may do so unseen, is refused."""
    check_mapping(f"the body of action {action!r}", body)
    body = cast("Mapping[str, object]", body)
    check_action(action, body, "body")
    return {"action": action, **body}


def check_action(action: str, fields: Mapping[str, object], place: str) -> None:
    """Refuse fields that name another action, for what may be repeated hangs on it."""
    if (named := fields.get("action", action)) != action:
        raise InvalidArgument(f"the {place}'s action must be {action!r}, not {named!r}; nothing was sent")


def _fields(body: Mapping[str, object], secrets: list[Secret]) -> dict[str, object]:
    fields = {}
    for key, value in body.items():
        if value is not None:
            fields[key] = value if type(value) in _PLAIN else _to_wire(value, secrets)
    return fields


def _to_wire(value: object, secrets: list[Secret]) -> object:
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
        return [_to_wire(each, secrets) for each in value]
    if isinstance(value, Formed):
        return _to_form(value, secrets)
    if attrs.has(type(value)):
        value = fields_of(cast("attrs.AttrsInstance", value))
    return _fields(value, secrets) if isinstance(value, Mapping) else value


def _to_form(formed: Formed, secrets: list[Secret]) -> object:
    known = len(secrets)
    made = formed.form.write(_to_wire(formed.value, secrets))
    secrets += [as_escaped(secret) for secret in secrets[known:]]
    return made


def as_escaped(secret: Secret) -> Secret:
    """Return *secret* as it stands in JSON that is a text in JSON."""
    return Secret(orjson.dumps(secret.reveal())[1:-1].decode())


def read_reply(endpoint: Endpoint[R], data: bytes, hide: tuple[Secret, ...] = ()) -> R | ApiError | BadReply:
    """Read the body of an HTTP 200: the typed reply, the error its errcode stands for, or why it is neither.

    Nothing of the body is quoted but errmsg and the beginning of a page that is no JSON, with the values of *hide*
    blotted out; so they are of the reasons of a batch's failures.
    """
    fields = _open(endpoint, data, hide)
    if not isinstance(fields, dict):
        return fields
    for _ in _blot_reasons(endpoint, fields, hide):
        pass
    return _fill(endpoint, fields, data)


async def read_large_reply(
    endpoint: Endpoint[R], data: bytes, hide: tuple[Secret, ...] = ()
) -> R | ApiError | BadReply:
    """Read as `read_reply` does, and let others have a turn on the loop between slices of the work."""
    await asyncio.sleep(0)
    fields = _open(endpoint, data, hide)
    if not isinstance(fields, dict):
        return fields
    done = SLICE
    reading = read_ahead(cast("type[attrs.AttrsInstance]", endpoint.reply), fields)
    for more in chain(_blot_reasons(endpoint, fields, hide), reading):
        done += more
        if done >= SLICE:
            await asyncio.sleep(0)
            done = 0
    await asyncio.sleep(0)
    return _fill(endpoint, fields, data)


def _open(endpoint: Endpoint[Reply], data: bytes, hide: tuple[Secret, ...]) -> dict[str, object] | ApiError | BadReply:
    """Return the JSON object of a success, or the error that stands in its place."""
    try:
        fields = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        return _bad(endpoint, _why_not_json(endpoint, data, error, hide))
    if not isinstance(fields, dict):
        return _bad(endpoint, f"the reply is a JSON {type(fields).__name__}, not an object")
    errcode = fields.get("errcode", 0)
    if type(errcode) is not int:
        return _bad(endpoint, "the reply's errcode is not a number")
    if errcode != 0:
        return _refusal(endpoint, errcode, fields.get("errmsg"), hide)
    return fields


def _blot_reasons(endpoint: Endpoint[Reply], fields: dict[str, object], hide: tuple[Secret, ...]) -> Iterator[int]:
    """Blot the values of *hide* out of what the platform says of a failure, or of each of a batch's.

    It may repeat the request there. Stops for a breath after every `SLICE` entries, and tells how many they were.
    """
    if endpoint.reply.failed is Reply.failed:
        return
    lists = [value for value in fields.values() if isinstance(value, list)]
    entries = (each for entries in ([fields], *lists) for each in entries if isinstance(each, dict))
    for number, entry in enumerate(entries, 1):
        for name in _REASONS:
            if isinstance(reason := entry.get(name), str):
                entry[name] = redact(reason, *hide)
        if number % SLICE == 0:
            yield SLICE


def _fill(endpoint: Endpoint[R], fields: dict[str, object], data: bytes) -> R | BadReply:
    try:
        reply: R = reader_of(endpoint.reply)(fields, endpoint.reply)
    except Exception as error:
        return _bad(endpoint, "; ".join(cattrs.transform_error(error, format_exception=why)), lasting=True)
    return mark(reply, raw=data if reply.keeps_raw else None)


def _bad(endpoint: Endpoint[Reply], reason: str, *, lasting: bool = False) -> BadReply:
    return BadReply(reason, endpoint=endpoint.path, status=200, lasting=lasting)


def check_readable(endpoint: Endpoint[Reply]) -> None:
    """Refuse an endpoint whose reply class has fields that no JSON value can be read into."""
    try:
        reader_of(endpoint.reply)
    except cattrs.StructureHandlerNotFoundError as error:
        reason = str(error)
    else:
        return
    raise InvalidArgument(f"{endpoint.path}: {endpoint.reply.__name__} cannot be read from JSON: {reason}")


def _refusal(endpoint: Endpoint[Reply], errcode: int, errmsg: object, hide: tuple[Secret, ...]) -> ApiError:
    text = redact(errmsg, *hide) if isinstance(errmsg, str) else ""
    found = _RID.search(text)
    tokenless = endpoint.credential is Credential.NONE
    return api_error(errcode, text, endpoint=endpoint.path, rid=found and found[1], tokenless=tokenless)


def _why_not_json(
    endpoint: Endpoint[Reply], data: bytes, error: orjson.JSONDecodeError, hide: tuple[Secret, ...]
) -> str:
    if not data:
        return "the reply is empty"
    return f"the reply is not JSON (line {error.lineno}, column {error.colno}): {excerpt(endpoint, data, hide)}"


def excerpt(endpoint: Endpoint[Reply], data: bytes, hide: tuple[Secret, ...]) -> str:
    """Quote the beginning of a page that is no reply, without tags and without the values of *hide*.

    Only the size is told of what may hold a secret that cannot be blotted out: a new token in a page that is, or holds,
    JSON or answers a call whose reply is secret; a secret that could stand there escaped.
    """
    size = f"{len(data)} bytes"
    if not endpoint.reply.keeps_raw or not all(_UNESCAPED.fullmatch(secret.reveal()) for secret in hide):
        return size
    margin = 6 * max((len(secret.reveal()) for secret in hide), default=0)
    head = redact(data[: _QUOTED + margin].decode(errors="replace"), *hide)
    if len(data) > _QUOTED + margin:
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
