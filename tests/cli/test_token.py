"""`wxtcb token`: state without a request, a token only on request, its value only when revealed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Cli, Platform, signal_when_asked


def test_it_shows_what_is_set_and_no_value(cli: Cli, platform: Platform) -> None:
    """Nothing is sent."""
    result = cli("token")
    assert result.exit_code == 0
    assert "WXTCB_TICKET               set\nWXTCB_TICKET_FILE          not set\n" in result.stdout
    assert f"Ready for {platform.box.url}.\n" in result.stdout
    assert "No token was fetched" in result.stdout
    assert platform.box.ticket not in result.output
    assert len(platform.box.seen) == 0


def test_it_tells_what_is_missing(cli: Cli) -> None:
    """In the words of the commands that need it."""
    result = cli("token")
    assert result.exit_code == 0
    assert "Not ready: not set in the environment: WXTCB_COMPONENT_APPID, WXTCB_COMPONENT_APPSECRET" in result.stdout


def test_it_tells_that_a_token_needs_leave(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it would be fetched from a platform that is not on this machine."""
    monkeypatch.setenv("WXTCB_BASE_URL", "https://nowhere.invalid")
    assert "https://nowhere.invalid; what fetches a token there needs --own-token." in cli("token").stdout


def test_fetch_tells_the_life_alone(cli: Cli, platform: Platform) -> None:
    """The value is printed only with --reveal."""
    result = cli("token", "--fetch")
    assert (result.exit_code, result.stdout) == (0, "A token was fetched; it lives 7200 s.\n")
    revealed = cli("token", "--fetch", "--reveal").stdout.splitlines()
    assert revealed[1].startswith("2_")
    assert platform.box.world.mints == 2


def test_reveal_alone_is_refused(cli: Cli) -> None:
    """There is nothing to show."""
    result = cli("token", "--reveal")
    assert result.exit_code == 2
    assert "--reveal: there is no token to show without --fetch" in result.stderr


def test_a_foreign_platform_needs_leave(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fetcher voids the backend's token; with --own-token it is tried."""
    monkeypatch.setenv("WXTCB_BASE_URL", "https://nowhere.invalid")
    result = cli("token", "--fetch")
    assert result.exit_code == 2
    assert "may void the one your backend works with" in result.stderr
    monkeypatch.setattr("wxtcb.retry.RetryPolicy.most_attempts", lambda *_: 1)
    result = cli("token", "--fetch", "--own-token")
    assert result.exit_code == 3
    assert "Nothing was sent" in result.stderr
    assert platform.box.world.mints == 0


def test_a_refused_secret_is_told_without_it(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's code and what to do; 3 says that the call was made, and raised."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", "wrong-secret")
    result = cli("token", "--fetch")
    assert result.exit_code == 3
    assert "40125" in result.stderr
    assert "wrong-secret" not in result.output


def test_a_ticket_file_will_do(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes the place of the variable."""
    path = tmp_path / "ticket"
    path.write_text(platform.box.ticket + "\n")
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(path))
    assert cli("token", "--fetch").exit_code == 0


def test_no_ticket_is_told_from_a_refused_one(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """2 where nothing was sent, 3 where the platform refused."""
    path = tmp_path / "ticket"
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(path))
    for ticket, code in (("", 2), ("ticket@@@wrong", 3)):
        path.write_text(ticket)
        assert cli("token", "--fetch").exit_code == code


def test_a_token_is_never_written_to_standard_error(platform: Platform) -> None:
    """A full disk behind standard output loses it, rather than leave it in a log."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wxtcb", "token", "--fetch", "--reveal"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert "it is lost" in ended.stderr
    assert platform.box.world.tokens._token not in ended.stderr


def test_a_fetch_that_is_cut_off_tells_what_it_may_have_done(cli: Cli, platform: Platform) -> None:
    """A token may have been minted; 130."""
    path = "/cgi-bin/component/api_component_token"
    platform.box.faults.hang(path=path)
    with signal_when_asked(platform, path, signal.SIGINT):
        result = cli("token", "--fetch")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Ctrl-C cut the fetch off: a token may have been minted, which may void another one.\n"
