"""Command `wxtcb call`: one call to the platform, with its body and its reply as JSON."""

from __future__ import annotations

import codecs
import difflib
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final, TypedDict, cast

import attrs
import orjson

from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.api import endpoints
from wxtcb.cli.body_schema import check_body
from wxtcb.cli.config import needs_ticket, require_fetch_permission, with_credentials
from wxtcb.cli.console import confirm, echo_err, echo_err_newline, print_json
from wxtcb.cli.runner import Interrupted, run_until_signal
from wxtcb.errors import InvalidArgument, PartialFailure
from wxtcb.events import Abandoned, Event
from wxtcb.secret import Secret
from wxtcb.session import Session
from wxtcb.tokens.env_vars import read_platform
from wxtcb.tokens.providers import API_COMPONENT_TOKEN
from wxtcb.validation import is_valid_unicode

_INTERRUPTED_EFFECTS: Final = {
    Repeat.READ: "it changes nothing",
    Repeat.SET: "it may have taken effect; sending it again is safe",
}
# By name, not by a list of calls: new calls are covered too. A false match costs no more than a file for the body.
_SECRET_NAME: Final = re.compile(
    r"secret|passw|token|ticket|aes_?key|authorization|env_?(params|vars?$)|environment_?variables", re.IGNORECASE
)
# These fields contain the name of a secret, not its value.
_SECRET_REFERENCE_NAME: Final = re.compile(r"secret_?name|image_?pulls?_?secret", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class CallOptions:
    """Options of the command; with `unchecked`, the body is not checked against the documentation."""

    reveal: bool = False
    own_token: bool = False
    yes: bool = False
    unchecked: bool = False


def call(name: str, body_argument: str, query_arguments: Sequence[str], options: CallOptions) -> int:
    """Make the call *name* and print its reply; return the exit code.

    Raises `WxtcbError` if the command is rejected before a request was sent, or if the call fails.
    """
    endpoint = find_endpoint(name)
    query, body = read_query(query_arguments), read_body(body_argument)
    if not options.unchecked:
        check_body(endpoint, body)
    settings = read_platform(needs_ticket=needs_ticket(endpoint))
    if needs_ticket(endpoint):
        require_fetch_permission(settings, f"call {name}", own_token=options.own_token)
    if endpoint.repeat not in (Repeat.READ, Repeat.SET) and not options.yes:
        effect = "takes effect each time it is sent, and may cost money"
        if endpoint is API_COMPONENT_TOKEN:
            effect = "issues a new token, which may invalidate the current one"
        confirm(f"{endpoint.name} {effect}. Send it to {settings.base_url}?")
    hook = AbandonedHook()

    async def send() -> Reply:
        full_body = await with_credentials(endpoint, settings, body)
        async with Session.from_settings(settings) as session:
            return await session.with_options(hooks=[hook]).call(endpoint, full_body, query=query)

    try:
        result = run_until_signal(send())
    except PartialFailure as error:
        # A part of the call has taken effect, and only the reply shows which.
        _print_reply(endpoint, error.reply, reveal=options.reveal)
        raise
    return (
        _report_interruption(endpoint, result, hook)
        if isinstance(result, Interrupted)
        else _report(endpoint, result, options)
    )


def _report(endpoint: Endpoint[Reply], reply: Reply, options: CallOptions) -> int:
    _print_reply(endpoint, reply, reveal=options.reveal)
    if acted := reply.maybe_acted:
        attempts = "1 earlier attempt" if acted == 1 else f"{acted} earlier attempts"
        echo_err(f"{attempts} of {endpoint.name} may have taken effect too; check for duplicates.")
    return 0


@attrs.define(eq=False)
class AbandonedHook:
    """Hook that records whether the call was cancelled when it may have taken effect already."""

    abandoned: bool = False

    def __call__(self, event: Event) -> None:
        self.abandoned |= isinstance(event, Abandoned)


def find_endpoint(name: str) -> Endpoint[Reply]:
    """Return the endpoint with this name, official name or path.

    Raises `InvalidArgument`, with their names, if there are several or only similar ones.
    """
    known: dict[str, list[Endpoint[Reply]]] = {}
    for endpoint in endpoints():
        forms = (endpoint.name, endpoint.official, endpoint.path, endpoint.path.rpartition("/")[2])
        for key in dict.fromkeys(each.casefold() for each in forms):
            known.setdefault(key, []).append(endpoint)
    key = name.casefold()
    found = known.get(key) or known.get(f"/{key}", [])
    if len(found) > 1:
        names = ", ".join(endpoint.name for endpoint in found)
        raise InvalidArgument(f"{name!r} is the name of several calls: use one of {names}; no request was sent")
    if found:
        return found[0]
    matches = difflib.get_close_matches(key, known, n=3)
    similar = dict.fromkeys(endpoint.name for match in matches for endpoint in known[match])
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    raise InvalidArgument(f"unknown call {name!r}: {hint}`wxtcb endpoints` lists all calls; no request was sent")


def _report_interruption(endpoint: Endpoint[Reply], interruption: Interrupted, hook: AbandonedHook) -> int:
    effect = _INTERRUPTED_EFFECTS.get(endpoint.repeat, "it had no effect")
    if hook.abandoned:
        effect = "it may have taken effect; check before you send it again"
    echo_err_newline(f"{interruption.signal_name} interrupted {endpoint.name}: {effect}.")
    return interruption.exit_code


def _print_reply(endpoint: Endpoint[Reply], reply: Reply, *, reveal: bool) -> None:
    """Print the JSON of *reply*, or its fields if the JSON contains a secret; secrets are masked without *reveal*."""

    def serialize(_: object, __: object, value: object) -> object:
        return (value.reveal() if reveal else repr(value)) if isinstance(value, Secret) else value

    try:
        if reply.keeps_raw:
            print_json(raw(reply))
        else:
            # mypy cannot see that every subclass of `Reply` is an attrs class.
            print_json(attrs.asdict(cast("attrs.AttrsInstance", reply), value_serializer=serialize))
    except OSError as error:
        # The exit code alone would look like a call that failed, and invite a second one.
        error.add_note(f"{endpoint.name} itself was answered; check its effect before you send it again.")
        raise


def read_body(argument: str) -> Mapping[str, object]:
    """Read a JSON object from *argument*: the object itself, ``@file``, or ``-`` for standard input.

    The values of secret fields become `Secret`. Raises `InvalidArgument`, which quotes no value, if the text is not a
    JSON object, or if the argument itself contains a secret.
    """
    is_inline = argument != "-" and not argument.startswith("@")
    source = "the body" if is_inline else argument
    fields = _parse_object(os.fsencode(argument) if is_inline else _read_body_bytes(argument), source)
    secret_paths: list[str] = []
    try:
        body = {
            key: _wrap_secrets(each, key, secret_paths, in_secret=is_secret_field(key)) for key, each in fields.items()
        }
    except RecursionError as error:
        raise InvalidArgument(f"{source}: the JSON is nested too deeply; no request was sent") from error
    if is_inline and secret_paths:
        raise InvalidArgument(
            f"{source}: {secret_paths[0]} is secret, but other programs can read an argument: "
            "pass the body as @file or -; no request was sent"
        )
    return body


def _read_body_bytes(argument: str) -> bytes:
    try:
        if argument == "-":
            # Python sets standard input to None if it is closed at start.
            return sys.stdin.buffer.read() if sys.stdin else b""
        return Path(argument[1:]).read_bytes()
    # A path with a null character is a ValueError.
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise InvalidArgument(f"{argument}: cannot be read ({reason}); no request was sent") from error


def _parse_object(data: bytes, source: str) -> dict[str, object]:
    # Editors of Windows write a byte order mark, which orjson rejects.
    try:
        fields = orjson.loads(data.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    else:
        if isinstance(fields, dict):
            return fields
        reason = "a JSON object is required"
    # Not raised from the decoding error: its attribute `doc` is the whole body, which may contain a secret.
    raise InvalidArgument(f"{source}: {reason}; no request was sent")


def is_secret_field(name: str) -> bool:
    """Return whether a field, by its name, contains credentials, or variables that may be credentials."""
    return bool(_SECRET_NAME.search(name)) and not _SECRET_REFERENCE_NAME.fullmatch(name)


def _wrap_secrets(value: object, path: str, secret_paths: list[str], *, in_secret: bool) -> object:
    """Return a copy of *value* with secret strings as `Secret`, and append their paths to *secret_paths*."""
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
            return [
                _wrap_secrets(each, f"{path}[{index}]", secret_paths, in_secret=in_secret)
                for index, each in enumerate(cast("list[object]", value))
            ]
        case _:
            return value


def read_query(arguments: Sequence[str]) -> dict[str, str]:
    """Return the query parameters of ``NAME=VALUE`` arguments.

    Raises `InvalidArgument` if one has another form, is duplicated, or is secret; the value of a secret is not quoted.
    """
    query: dict[str, str] = {}
    for pair in arguments:
        name, _, value = pair.partition("=")
        if is_secret_field(name):
            message = f"--query: {name} is secret, but other programs can read an argument; no request was sent"
            raise InvalidArgument(message)
        if not name or not value or not is_valid_unicode(pair):
            raise InvalidArgument(f"--query must be NAME=VALUE in valid Unicode, not {pair!r}; no request was sent")
        if name in query:
            raise InvalidArgument(f"--query: {name} is duplicated; no request was sent")
        query[name] = value
    return query


class Example(TypedDict):
    """Documented request, query parameters and reply of a call."""

    request: dict[str, object]
    query: dict[str, str]
    reply: dict[str, object]


def show_example(name: str) -> int:
    """Print the documented request of the call *name*, without sending it; return the exit code.

    The command to send it and the documented reply go to standard error, so that the request can be redirected.
    """
    endpoint = find_endpoint(name)
    example = read_examples()[endpoint.name]
    print_json(example["request"])
    query = [f"--query {shlex.quote(f'{name}={value}')}" for name, value in example["query"].items()]
    body = ["@FILE"] if example["request"] else []
    reply = orjson.dumps(example["reply"], option=orjson.OPT_INDENT_2).decode()
    echo_err(f"\nTo send it: {' '.join(['wxtcb call', endpoint.name, *query, *body])}\nThe reply:\n{reply}")
    return 0


def read_examples() -> dict[str, Example]:
    """Return the example of each call by the name of the call."""
    # Generated by tests/generated.py, because the samples that it is made of are not part of the package.
    data = resources.files("wxtcb.cli").joinpath("examples.json").read_bytes()
    return cast("dict[str, Example]", orjson.loads(data))
