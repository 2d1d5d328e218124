"""Whatever the platform does, no token, secret or ticket shows anywhere."""

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


def whole_story(error):
    """Return all a reader could get out of an exception: every frame's locals, the whole chain, repr and str."""
    story = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False)
    seen, texts = set(), ["".join(story.format())]
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        texts += [repr(error), str(error), repr(vars(error)), repr(error.args)]
        error = error.__context__ or error.__cause__
    return "\n".join(texts)


async def make_call(session, path):
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


def secrets_of(box):
    desk = box.world.credentials
    minted = [token for token in (*desk._invalidated, desk._token) if token]
    return [box.component_appsecret, box.ticket, PASSWORD, *minted]


def parts_of(secret):
    """Return every run of 12 characters of *secret*: half a token shown is a token shown."""
    return [secret[start : start + 12] for start in range(len(secret) - 11)]


@pytest.fixture
def listened(caplog):
    """Collect every event, and every log line of every library at DEBUG."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.DEBUG)
    return []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("trouble", FaultKind, ids=lambda trouble: trouble.value)
async def test_nothing_secret_shows_when_fault_strikes(trouble, path, listened, caplog):
    """Neither exceptions with their frames' locals, nor DEBUG logs, events and reprs hold a secret."""
    box = Sandbox()
    async with box:
        box.faults.add(Fault(trouble, path=path, status=0, seconds=0.3, megabytes=33))
        told = []
        async with wxtcb.Session(
            component_appid=box.component_appid,
            component_appsecret=box.component_appsecret,
            ticket=box.ticket,
            base_url=box.url,
            retry=QUICK,
            timeout=wxtcb.Timeout(connect=0.1, reply=0.05),
            hooks=[listened.append],
        ) as session:
            try:
                async with asyncio.timeout(0.25):
                    await make_call(session, path)
            except (wxtcb.WxtcbError, TimeoutError) as error:
                told.append(whole_story(error))
            told += [repr(session), str(session)]
    told += [repr(listened), caplog.text, repr(caplog.records), *(repr(vars(record)) for record in caplog.records)]
    everything = "\n".join(told)
    assert not [part for secret in secrets_of(box) for part in parts_of(secret) if part in everything]
