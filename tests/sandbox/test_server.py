"""The server of the sandbox: host, port, unknown paths, and secrets in reprs."""

from __future__ import annotations

import pytest

from wxtcb.sandbox import Sandbox

from .sandbox_harness import CREATE, LIST, TOKEN, Harness


async def test_unknown_path_is_an_html_404(harness: Harness) -> None:
    """An unknown path gets an HTML page with 404, and is recorded as not found."""
    async with harness.http.post("/componenttcb/nothing", json={}) as reply:
        assert (reply.status, reply.content_type) == (404, "text/html")
    assert (harness.sandbox.seen[0].outcome, harness.sandbox.count("/componenttcb/nothing")) == ("not found", 1)


async def test_repr_has_no_secret(harness: Harness) -> None:
    """Neither the repr of the sandbox nor that of a seen request has a credential."""
    await harness.post(TOKEN, harness.account())
    text = repr(harness.sandbox) + repr(list(harness.sandbox.seen))
    assert harness.sandbox.component_appsecret not in text
    assert harness.sandbox.ticket not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "::"])
def test_host_must_be_loopback(host: str) -> None:
    """A host that other machines could reach is a ValueError."""
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(host=host)


@pytest.mark.parametrize(("host", "url"), [("localhost", "http://localhost:1"), ("::1", "http://[::1]:1")])
def test_host_can_be_ipv6_or_localhost(host: str, url: str) -> None:
    """IPv6 and the name localhost are loopback too."""
    assert Sandbox(host=host, port=1).url == url


def test_sandbox_is_an_asynchronous_context_manager() -> None:
    """A plain `with` is an error for the type checker, and raises an error with the correction."""
    with pytest.raises(TypeError, match="needs `async with`"), Sandbox():  # type: ignore[attr-defined]
        pass


async def test_port_in_use_is_an_oserror(harness: Harness) -> None:
    """Entering with a port in use raises OSError, and leaves nothing open."""
    sandbox = Sandbox(port=harness.sandbox.port)
    with pytest.raises(OSError, match="address"):
        await sandbox.__aenter__()
    await sandbox.__aexit__(None, None, None)


async def test_reset_keeps_credentials_and_settings_only(harness: Harness) -> None:
    """A reset removes environments, faults and records; the token of a running program stays valid."""
    sandbox = harness.sandbox
    sandbox.world.visible_after = 5.0
    token, credentials = sandbox.world.issue_token(), harness.account()
    assert (await harness.post(CREATE, {"alias": "a"}, access_token=token))["errcode"] == 0
    sandbox.faults.busy()
    harness.clock.advance(60)
    now = sandbox.world.unix_time()
    sandbox.reset()
    assert (dict(sandbox.world.environments), len(sandbox.seen), sandbox.counts) == ({}, 0, {})
    assert (sandbox.world.visible_after, sandbox.world.unix_time()) == (5.0, now)
    assert (harness.account(), sandbox.pushes.world) == (credentials, sandbox.world)
    assert (await harness.post(LIST, {}, access_token=token))["info_list"] == []


async def test_reset_by_the_admin_api(harness: Harness) -> None:
    """Another process can reset the sandbox."""
    harness.sandbox.world.add("a")
    async with harness.http.post("/_sandbox/reset", headers={"Content-Type": "application/json"}) as reply:
        assert (reply.status, await reply.json()) == (200, {})
    assert not harness.sandbox.world.environments
