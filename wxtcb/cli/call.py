"""`wxtcb call`: one call of the platform, its body given as JSON, its reply printed as JSON."""

from __future__ import annotations

import difflib
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Final, cast

import attrs

from wxtcb._protocol.codec import raw
from wxtcb._protocol.endpoint import Endpoint, Repeat, Reply
from wxtcb.api import endpoints
from wxtcb.cli.asking import confirm
from wxtcb.cli.body import read_body
from wxtcb.cli.config import Settings, read_settings
from wxtcb.cli.console import echo_err, echo_err_newline, print_json
from wxtcb.cli.credentials import needs_ticket, with_credentials
from wxtcb.cli.example import print_example
from wxtcb.cli.query import read_query
from wxtcb.cli.signals import Interrupted, run_until_signal
from wxtcb.cli.streams import mark_stdout_sensitive
from wxtcb.errors import InvalidArgument, PartialFailure
from wxtcb.events import Abandoned, Event
from wxtcb.secret import Secret
from wxtcb.tokens.providers import API_COMPONENT_TOKEN

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
