"""`wxtcb call`: one call of the platform, its body given as JSON, its reply printed as JSON."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from collections.abc import Coroutine, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, TypedDict, cast

import attrs
import orjson

from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.api import endpoints
from wxtcb.cli.config import Settings, needs_ticket, read_settings, with_credentials
from wxtcb.cli.console import confirm, echo_err, echo_err_newline, mark_stdout_sensitive, print_json
from wxtcb.cli.runner import Interrupted, run_until_signal
from wxtcb.errors import InvalidArgument, PartialFailure
from wxtcb.events import Abandoned, Event
from wxtcb.secret import Secret
from wxtcb.tokens.sources import API_COMPONENT_TOKEN
from wxtcb.validation import is_valid_unicode

_INTERRUPTED_EFFECTS: Final = {
    Repeat.READ: "it changes nothing",
    Repeat.SET: "it may have taken effect; sent again it ends the same",
}


@attrs.define(eq=False)
class AbandonedHook:
    """Hears whether a call that adds something was cut off when its body may have left."""

    abandoned: bool = False

    def __call__(self, event: Event) -> None:
        self.abandoned |= isinstance(event, Abandoned)


def show_example(name: str) -> int:
    """Print the documented request and reply of the call *name*; nothing is sent."""
    return print_example(find_endpoint(name))


def call(
    name: str, body_argument: str, query_arguments: Sequence[str], *, reveal: bool, own_token: bool, yes: bool
) -> int:
    """Make the call *name* with the body *given* and print its reply; return the exit code.

    Raises `WxtcbError` for what is refused before anything was sent, and for what comes of the call.
    """
    endpoint = find_endpoint(name)
    query, body = read_query(query_arguments), read_body(body_argument)
    settings = read_settings(os.environ, needs_ticket=needs_ticket(endpoint))
    if needs_ticket(endpoint):
        settings.require_fetch_permission(f"call {name}", own_token=own_token)
    if endpoint.repeat not in (Repeat.READ, Repeat.SET) and not yes:
        confirm(f"{name} {_confirmation_reason(endpoint)}. Send it to {settings.base_url}?")
    if not endpoint.reply.keeps_raw:
        mark_stdout_sensitive()
    watch = AbandonedHook()
    return _run_call(endpoint, _send_call(endpoint, body, query, settings, watch), watch, reveal=reveal)


def _confirmation_reason(endpoint: Endpoint[Reply]) -> str:
    if endpoint is API_COMPONENT_TOKEN:
        return "mints a token each time, which may void the one in use"
    return "acts anew each time it is sent, which may cost something"


def find_endpoint(name: str) -> Endpoint[Reply]:
    """Return the endpoint of that name; `InvalidArgument` names those that are spelled alike."""
    known = {endpoint.name: endpoint for endpoint in endpoints()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise InvalidArgument(f"there is no call {name!r}: {hint}`wxtcb endpoints` lists them all; nothing was sent")


def _run_call(
    endpoint: Endpoint[Reply], coroutine: Coroutine[None, None, Reply], hook: AbandonedHook, *, reveal: bool
) -> int:
    """See the call through, print what came of it, and return the exit code."""
    try:
        reply = run_until_signal(coroutine)
    except PartialFailure as error:
        print_json(_reply_content(error.reply, reveal=reveal))
        raise
    return (
        _report_interruption(endpoint, reply, hook)
        if isinstance(reply, Interrupted)
        else _print_reply(endpoint, reply, reveal=reveal)
    )


def _report_interruption(endpoint: Endpoint[Reply], interruption: Interrupted, hook: AbandonedHook) -> int:
    """Say whether a call that was cut off may have taken effect."""
    fate = (
        "it may have taken effect: look before you send it again"
        if hook.abandoned
        else _INTERRUPTED_EFFECTS.get(endpoint.repeat, "it had no effect")
    )
    echo_err_newline(f"{interruption.signal_name} cut {endpoint.name} off: {fate}.")
    return interruption.exit_code


def _print_reply(endpoint: Endpoint[Reply], reply: Reply, *, reveal: bool) -> int:
    print_json(_reply_content(reply, reveal=reveal))
    if reply.maybe_acted:
        echo_err(f"{reply.maybe_acted} earlier attempts of {endpoint.name} may have taken effect too: look for extras.")
    return 0


async def _send_call(
    endpoint: Endpoint[Reply],
    body: Mapping[str, object],
    query: Mapping[str, str],
    settings: Settings,
    hook: AbandonedHook,
) -> Reply:
    full = await with_credentials(endpoint, settings, body)
    async with settings.session() as session:
        return await session.with_options(hooks=[hook]).call(endpoint, full, query=query)


def _reply_content(reply: Reply, *, reveal: bool) -> Mapping[str, object]:
    """Return the JSON that *reply* came from; where that holds a secret, its fields, with secrets if *reveal*."""
    if reply.keeps_raw:
        return raw(reply)

    def show(_: object, __: object, value: object) -> object:
        return (value.reveal() if reveal else repr(value)) if isinstance(value, Secret) else value

    return attrs.asdict(cast("attrs.AttrsInstance", reply), value_serializer=show)


_BOM: Final = b"\xef\xbb\xbf"
_SECRET_NAME: Final = re.compile(
    r"secret|passw|token|ticket|aes_?key|authorization|env_?(params|vars?$)|environment_?variables", re.IGNORECASE
)
_SECRET_REFERENCE_NAME: Final = re.compile(r"secret_?name|image_?pulls?_?secret", re.IGNORECASE)


def is_secret_field(name: str) -> bool:
    """Tell by its name whether a field holds credentials, or variables that may be some.

    `secret_name` holds but the name of one.
    """
    return bool(_SECRET_NAME.search(name)) and not _SECRET_REFERENCE_NAME.fullmatch(name)


def read_body(argument: str) -> Mapping[str, object]:
    """Read a JSON object from an argument, from ``@file``, or from standard input (``-``).

    The values of secret fields are `Secret`, so that no error repeats them. Raises `InvalidArgument`, naming line and
    column of what is no JSON, and the place of a secret in an argument; no value is quoted.
    """
    is_argument = argument != "-" and not argument.startswith("@")
    source = "the body" if is_argument else argument
    fields = _parse_object(os.fsencode(argument) if is_argument else _read_body_bytes(argument), source)
    found: list[str] = []
    try:
        body = {
            name: _wrap_secrets(value, name, found, in_secret=is_secret_field(name)) for name, value in fields.items()
        }
    except RecursionError:
        raise InvalidArgument(f"{source}: it is nested too deeply; nothing was sent") from None
    if is_argument and found:
        raise InvalidArgument(
            f"{source}: {found[0]} is secret, and every program of this machine can read an argument: "
            "give the body as @file or -; nothing was sent"
        )
    return body


def _read_body_bytes(argument: str) -> bytes:
    try:
        if argument == "-":
            return sys.stdin.buffer.read() if sys.stdin else b""
        return Path(argument[1:]).read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    raise InvalidArgument(f"{argument}: it cannot be read ({reason}); nothing was sent")


def _parse_object(data: bytes, source: str) -> dict[str, object]:
    try:
        fields = orjson.loads(data.removeprefix(_BOM))
    except orjson.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    else:
        if isinstance(fields, dict):
            return fields
        reason = "a JSON object is needed"
    raise InvalidArgument(f"{source}: {reason}; nothing was sent")


def _wrap_secrets(value: object, path: str, secret_paths: list[str], *, in_secret: bool) -> object:
    """Return a copy of *value* with its secret texts concealed, and add their places to *found*."""
    match value:
        case str() if in_secret and value:
            secret_paths.append(path)
            return Secret(value)
        case dict():
            fields = cast("dict[str, object]", value)
            return {
                name: _wrap_secrets(each, f"{path}.{name}", secret_paths, in_secret=in_secret or is_secret_field(name))
                for name, each in fields.items()
            }
        case list():
            entries = enumerate(cast("list[object]", value))
            return [
                _wrap_secrets(each, f"{path}[{number}]", secret_paths, in_secret=in_secret) for number, each in entries
            ]
        case _:
            return value


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


class Example(TypedDict):
    """What to give to a call, and what comes back."""

    request: dict[str, object]
    query: dict[str, str]
    reply: dict[str, object]


def print_example(endpoint: Endpoint[Reply]) -> int:
    """Print the request, which the call takes as it is; how it is sent and what comes back is told beside it."""
    example = read_examples()[endpoint.name]
    print_json(example["request"])
    query = [f"--query {shlex.quote(f'{name}={value}')}" for name, value in example["query"].items()]
    file = ["@FILE"] if example["request"] else []
    reply = orjson.dumps(example["reply"], option=orjson.OPT_INDENT_2).decode()
    echo_err(f"\nIt is sent by: {' '.join(['wxtcb call', endpoint.name, *query, *file])}\nThe reply:\n{reply}")
    return 0


def read_examples() -> dict[str, Example]:
    """Return the examples by the names of their calls."""
    data = resources.files("wxtcb.cli").joinpath("examples.json").read_bytes()
    return cast("dict[str, Example]", orjson.loads(data))
