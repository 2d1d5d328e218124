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
from wxtcb.cli.asking import ask
from wxtcb.cli.body import read_body
from wxtcb.cli.config import Settings, read_settings
from wxtcb.cli.console import print_json, say, say_below
from wxtcb.cli.credentials import filled_in, needs_ticket
from wxtcb.cli.example import print_example
from wxtcb.cli.query import read_query
from wxtcb.cli.signals import Ended, run_until_signal
from wxtcb.cli.streams import be_private
from wxtcb.errors import InvalidArgument, PartialFailure
from wxtcb.events import Abandoned, Event
from wxtcb.secret import Secret
from wxtcb.tokens.sources import API_COMPONENT_TOKEN

_FATES: Final = {
    Repeat.READ: "it changes nothing",
    Repeat.SET: "it may have taken effect; sent again it ends the same",
}


@attrs.define(eq=False)
class Watch:
    """Hears whether a call that adds something was cut off when its body may have left."""

    abandoned: bool = False

    def __call__(self, event: Event) -> None:
        self.abandoned |= isinstance(event, Abandoned)


def show_example(name: str) -> int:
    """Print the documented request and reply of the call *name*; nothing is sent."""
    return print_example(find_endpoint(name))


def call(name: str, given: str, in_query: Sequence[str], *, reveal: bool, own_token: bool, yes: bool) -> int:
    """Make the call *name* with the body *given* and print its reply; return the exit code.

    Raises `WxtcbError` for what is refused before anything was sent, and for what comes of the call.
    """
    endpoint = find_endpoint(name)
    query, body = read_query(in_query), read_body(given)
    settings = read_settings(os.environ, needs_ticket=needs_ticket(endpoint))
    if needs_ticket(endpoint):
        settings.demand_own_token(f"call {name}", given=own_token)
    if endpoint.repeat not in (Repeat.READ, Repeat.SET) and not yes:
        ask(f"{name} {_price(endpoint)}. Send it to {settings.base_url}?")
    if not endpoint.reply.keeps_raw:
        be_private()
    watch = Watch()
    return _finish(endpoint, _send(endpoint, body, query, settings, watch), watch, reveal=reveal)


def _price(endpoint: Endpoint[Reply]) -> str:
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


def _finish(endpoint: Endpoint[Reply], sending: Coroutine[None, None, Reply], watch: Watch, *, reveal: bool) -> int:
    """See the call through, print what came of it, and return the exit code."""
    try:
        reply = run_until_signal(sending)
    except PartialFailure as error:
        print_json(_content(error.reply, reveal=reveal))
        raise
    return _tell_end(endpoint, reply, watch) if isinstance(reply, Ended) else _show(endpoint, reply, reveal=reveal)


def _tell_end(endpoint: Endpoint[Reply], ended: Ended, watch: Watch) -> int:
    """Say whether a call that was cut off may have taken effect."""
    fate = (
        "it may have taken effect: look before you send it again"
        if watch.abandoned
        else _FATES.get(endpoint.repeat, "it had no effect")
    )
    say_below(f"{ended.name} cut {endpoint.name} off: {fate}.")
    return ended.exit_code


def _show(endpoint: Endpoint[Reply], reply: Reply, *, reveal: bool) -> int:
    print_json(_content(reply, reveal=reveal))
    if reply.maybe_acted:
        say(f"{reply.maybe_acted} earlier attempts of {endpoint.name} may have taken effect too: look for extras.")
    return 0


async def _send(
    endpoint: Endpoint[Reply], body: Mapping[str, object], query: Mapping[str, str], settings: Settings, watch: Watch
) -> Reply:
    full = await filled_in(endpoint, settings, body)
    async with settings.session() as session:
        return await session.with_options(hooks=[watch]).call(endpoint, full, query=query)


def _content(reply: Reply, *, reveal: bool) -> Mapping[str, object]:
    """Return the JSON that *reply* came from; where that holds a secret, its fields, with secrets if *reveal*."""
    if reply.keeps_raw:
        return raw(reply)

    def show(_: object, __: object, value: object) -> object:
        return (value.reveal() if reveal else repr(value)) if isinstance(value, Secret) else value

    return attrs.asdict(cast("attrs.AttrsInstance", reply), value_serializer=show)
