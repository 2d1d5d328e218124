"""`wxtcb token`: state without a request, a token only on request, its value only when revealed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wxtcb.cli.token import _describe_health
from wxtcb.errors import TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens import Health
from wxtcb.tokens.refresh import process_id
from wxtcb.tokens.shared_state import SharedState
from wxtcb.tokens.stores import SqliteStore

from .conftest import VARIABLES, Cli, Platform, signal_at_request


def test_it_shows_what_is_set_and_no_value(cli: Cli, platform: Platform) -> None:
    """Nothing is sent."""
    result = cli("token")
    assert result.exit_code == 0
    told = dict(line.split("  ", 1) for line in result.stdout.splitlines()[:10])
    assert {name: state.strip() for name, state in told.items()} == {
        **dict.fromkeys(f"WXTCB_{name}" for name in VARIABLES),
        **dict.fromkeys(told, "not set"),
        **dict.fromkeys(platform.env, "set"),
    }
    assert f"Ready for {platform.sandbox.url}.\n" in result.stdout
    assert "No token was fetched" in result.stdout
    assert platform.sandbox.ticket not in result.output
    assert len(platform.sandbox.seen) == 0


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
    assert platform.sandbox.world.tokens_issued == 2


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
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.max_attempts", lambda *_: 1)
    result = cli("token", "--fetch", "--own-token")
    assert result.exit_code == 3
    assert "Nothing was sent" in result.stderr
    assert platform.sandbox.world.tokens_issued == 0


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
    path.write_text(platform.sandbox.ticket + "\n")
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


@pytest.mark.usefixtures("measured")
def test_a_token_is_never_written_to_standard_error(platform: Platform) -> None:
    """A full disk behind standard output loses it, rather than leave it in a log."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wxtcb", "token", "--fetch", "--reveal"]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert "it is lost" in ended.stderr
    assert platform.sandbox.world.credentials._token not in ended.stderr


def test_a_fetch_that_is_cut_off_tells_what_it_may_have_done(cli: Cli, platform: Platform) -> None:
    """A token may have been minted; 130."""
    path = "/cgi-bin/component/api_component_token"
    platform.sandbox.faults.hang(path=path)
    with signal_at_request(platform, path, signal.SIGINT):
        result = cli("token", "--fetch")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Ctrl-C cut the fetch off: a token may have been minted, which may void another one.\n"


def _share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let the commands use a store, and the ticket that is in it."""
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{tmp_path}/tokens.db")


async def _keep_ticket(tmp_path: Path, appid: str, ticket: str) -> None:
    async with SqliteStore(tmp_path / "tokens.db") as store:
        await SharedState(store, appid).update(lambda record, now: record.with_ticket(Secret(ticket), 1, now))


def test_an_empty_store_is_told(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the ticket that is missing in it, with what to do."""
    _share(monkeypatch, tmp_path)
    monkeypatch.delenv("WXTCB_TICKET")
    result = cli("token")
    assert result.exit_code == 0
    assert "The store keeps no token yet.\nTokens fetched within the last hour: 0.\n" in result.stdout
    assert "Problem: there is no component_verify_ticket yet" in result.stdout


def test_the_token_of_the_store_is_told_and_shared(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """--fetch sees to a living token for all, bought once with the ticket in the store; nobody's is voided."""
    _share(monkeypatch, tmp_path)
    asyncio.run(_keep_ticket(tmp_path, platform.sandbox.component_appid, platform.sandbox.ticket))
    monkeypatch.delenv("WXTCB_TICKET")
    assert cli("token", "--fetch").stdout == "The token in the store lives 2 h 0 min more.\n"
    revealed = cli("token", "--fetch", "--reveal").stdout.splitlines()
    assert revealed[1].startswith("1_")
    state = cli("token").stdout
    assert f"The token in the store lives 1 h 59 min more; {process_id()} fetched it 0 min " in state.replace(
        "2 h 0", "1 h 59"
    )
    assert "(first).\nThe ticket in the store came 0 min " in state
    assert "Problem" not in state
    assert platform.sandbox.world.tokens_issued == 1


def test_a_ticket_beside_a_store_is_used_only_where_the_store_has_none(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The store's is the newest there is, so what was pasted once spoils nothing; the state says which one it is."""
    _share(monkeypatch, tmp_path)
    assert "\nWXTCB_TICKET is used, for the store keeps no ticket of the last 12 hours.\n" in cli("token").stdout
    asyncio.run(_keep_ticket(tmp_path, platform.sandbox.component_appid, platform.sandbox.ticket))
    monkeypatch.setenv("WXTCB_TICKET", "ticket@@@old")
    assert "\nThe ticket in the store is used, and WXTCB_TICKET is not.\n" in cli("token").stdout
    assert cli("token", "--fetch").exit_code == 0
    (tmp_path / "ticket").write_text("ticket@@@old")
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(tmp_path / "ticket"))
    assert "\nThe ticket in the store is used, and WXTCB_TICKET_FILE is not.\n" in cli("token").stdout


def test_of_a_store_that_is_down_that_alone_is_told(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is known of what it keeps."""
    _share(monkeypatch, tmp_path)
    (tmp_path / "tokens.db").mkdir()
    told = cli("token").stdout.splitlines()
    assert told[-2] == f"Ready for {platform.sandbox.url}."
    assert told[-1].startswith("Problem: the token store")


def test_what_another_process_was_refused_with_is_told(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `health` tells it, with who met it and what to type."""
    _share(monkeypatch, tmp_path)
    monkeypatch.setenv("WXTCB_TICKET", "ticket@@@wrong")
    assert cli("call", "describe_envs").exit_code == 3
    [problem] = [line for line in cli("token").stdout.splitlines() if line.startswith("Problem: ")]
    assert "61006" in problem
    assert "`wxtcb call api_start_push_ticket`" in problem
    assert problem.endswith(f"(received by {process_id()})")


def test_what_a_store_knows_is_told_line_by_line() -> None:
    """A token that is over, a renewal under way, and every problem."""
    health = Health(
        token_age=7300.0,
        token_expires_in=-100.0,
        token_fetched_by="web1:7",
        token_fetch_reason="advisory",
        ticket_age=None,
        fetches_last_hour=3,
        max_fetches_per_hour=30,
        lease_owner="web2:9",
        last_error=None,
        problems=(TokenStoreError("failed"), TicketMissing()),
    )
    assert list(_describe_health(health)) == [
        "The token in the store is over; web1:7 fetched it 2 h 1 min ago (advisory).",
        "Tokens fetched within the last hour: 3.",
        "web2:9 fetches a token just now.",
        f"Problem: {TokenStoreError('failed')}",
        f"Problem: {TicketMissing()}".replace("api.token.api_start_push_ticket", "`wxtcb call api_start_push_ticket`"),
    ]


def test_a_look_that_is_cut_off_ends_quietly(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """130, and nothing was fetched."""
    _share(monkeypatch, tmp_path)

    async def hang(_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    monkeypatch.setattr("wxtcb.cli.token._read_health", hang)
    assert cli("token").exit_code == 130
