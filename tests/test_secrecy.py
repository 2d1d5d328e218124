"""Secrecy of complete calls: under every fault of the platform, no secret is visible anywhere."""

from __future__ import annotations

import asyncio
import logging
import traceback

import pytest

import wxtcb
from wxtcb.api import cloudrun, environment, token
from wxtcb.sandbox import Fault, FaultKind, Sandbox

PASSWORD = "pass-word-of-es-7f3a"
TOKEN_PATH = "/cgi-bin/component/api_component_token"
PATHS = [
    "/componenttcb/createenv",
    "/componenttcb/establishcloudbaserunserver",
    "/cgi-bin/component/api_start_push_ticket",
    TOKEN_PATH,
]
QUICK = wxtcb.RetryPolicy(attempts=2, once_attempts=2, base=0.001, cap=0.001)


def everything_of(error):
    """Return all texts of an exception: the locals of every frame, the whole chain, repr and str."""
    formatted = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    seen, texts = set(), ["".join(formatted.format())]
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        texts += [repr(error), str(error), repr(vars(error)), repr(error.args)]
        error = error.__context__ or error.__cause__
    return "\n".join(texts)


async def call_path(session, path):
    server = cloudrun.Server(
        env_id="e-1", service_name="s1", is_public=True, es_info=cloudrun.EsInfo(id=1, password=PASSWORD)
    )
    match path:
        case "/componenttcb/establishcloudbaserunserver":
            await cloudrun.establish_cloudbaserun_server(session, server)
        case "/cgi-bin/component/api_start_push_ticket":
            await token.api_start_push_ticket(session)
        case "/componenttcb/createenv":
            await environment.create_env(session, alias="abc")
        case _:
            await environment.describe_envs(session)


def secrets_of(sandbox):
    store = sandbox.world.credentials
    tokens = [token for token in (*store._earlier_tokens, store.token) if token]
    return [sandbox.component_appsecret, sandbox.ticket, PASSWORD, *tokens]


def parts_of(secret):
    """Return every run of 12 characters of *secret*, because half a token must not be visible either."""
    return [secret[start : start + 12] for start in range(len(secret) - 11)]


@pytest.fixture
def events(caplog):
    """Return a list for all events, and enable the DEBUG logs of all libraries."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.DEBUG)
    return []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", FaultKind, ids=lambda kind: kind.value)
async def test_no_fault_makes_a_secret_visible(kind, path, events, caplog):
    """Exceptions with the locals of their frames, DEBUG logs, events and reprs contain no secret."""
    sandbox = Sandbox()
    async with sandbox:
        sandbox.faults.add(Fault(kind, path=path, status=0, seconds=0.3, megabytes=33))
        visible = []
        async with wxtcb.Session(
            component_appid=sandbox.component_appid,
            component_appsecret=sandbox.component_appsecret,
            ticket=sandbox.ticket,
            base_url=sandbox.url,
            retry=QUICK,
            timeout=wxtcb.Timeout(connect=0.1, reply=0.05),
            hooks=[events.append],
        ) as session:
            try:
                async with asyncio.timeout(0.25):
                    await call_path(session, path)
            except (wxtcb.WxtcbError, TimeoutError) as error:
                visible.append(everything_of(error))
            visible += [repr(session), str(session)]
    visible += [repr(events), caplog.text, repr(caplog.records), *(repr(vars(record)) for record in caplog.records)]
    everything = "\n".join(visible)
    assert not [part for secret in secrets_of(sandbox) for part in parts_of(secret) if part in everything]
