"""Command `wxtcb token`: it shows state without a request, fetches with --fetch, and prints with --reveal."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from wxtcb.cli.token import describe_health
from wxtcb.errors import TicketMissing, TokenStoreError
from wxtcb.secret import Secret
from wxtcb.tokens import Health
from wxtcb.tokens.refresh import process_id
from wxtcb.tokens.state_repository import StateRepository
from wxtcb.tokens.stores import SqliteStore

from .children import start
from .conftest import TOKEN, VARIABLES, Cli, Platform, signal_at_request


def test_state_shows_which_variables_are_set(cli: Cli, platform: Platform) -> None:
    """No secret is shown, and no request is sent."""
    result = cli("token")
    assert result.exit_code == 0
    states = dict(line.split("  ", 1) for line in result.stdout.splitlines()[:10])
    assert {name: state.strip() for name, state in states.items()} == {
        **dict.fromkeys(
            (f"WXTCB_{name}" for name in VARIABLES if not name.endswith("_FILE") and name != "PROFILE"), "not set"
        ),
        **dict.fromkeys(platform.env, "set"),
        "WXTCB_COMPONENT_APPID": platform.sandbox.component_appid,
        "WXTCB_BASE_URL": platform.sandbox.url,
    }
    assert f"Ready for {platform.sandbox.url}.\n" in result.stdout
    assert "No token was fetched" in result.stdout
    assert platform.sandbox.ticket not in result.output
    assert len(platform.sandbox.seen) == 0


def test_state_shows_what_is_missing(cli: Cli) -> None:
    """The exit code is 0, because the state was shown."""
    result = cli("token")
    assert result.exit_code == 0
    assert "Not ready: not set in the environment: WXTCB_COMPONENT_APPID (" in result.stdout


def test_state_shows_the_files_of_the_settings(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are the file of variables and the file of the ticket."""
    path = tmp_path / "shop.env"
    path.write_text("WXTCB_COMPONENT_APPID=wx0123456789abcdef\nWXTCB_TICKET_FILE=ticket\n")
    path.chmod(0o600)
    monkeypatch.setenv("WXTCB_ENV_FILE", str(path))
    output = cli("token").stdout
    assert f"are read from {path}.\n" in output
    assert "wx0123456789abcdef\n" in output
    assert f"in the file {Path.cwd()}/ticket\n" in output


def test_state_shows_that_own_token_is_required(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that is not on this machine requires it."""
    monkeypatch.setenv("WXTCB_BASE_URL", "https://nowhere.invalid")
    [line] = [line for line in cli("token").stdout.splitlines() if line.startswith("Ready for ")]
    assert "https://nowhere.invalid" in line
    assert "--own-token" in line


def test_fetch_prints_the_token_only_with_reveal(cli: Cli, platform: Platform) -> None:
    """Otherwise it prints in how many seconds the token expires."""
    result = cli("token", "--fetch")
    assert (result.exit_code, result.stdout) == (0, "A token was fetched; it expires in 7200 s.\n")
    revealed = cli("token", "--fetch", "--reveal").stdout.splitlines()
    assert revealed[1].startswith("2_")
    assert platform.sandbox.world.tokens_issued == 2


def test_reveal_requires_fetch(cli: Cli) -> None:
    """The exit code is 2."""
    result = cli("token", "--reveal")
    assert result.exit_code == 2
    assert "--fetch" in result.stderr


def test_remote_platform_requires_own_token(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --own-token no request is sent; with it, the fetch is tried."""
    monkeypatch.setenv("WXTCB_BASE_URL", "https://nowhere.invalid")
    result = cli("token", "--fetch")
    assert result.exit_code == 2
    assert "--own-token" in result.stderr
    monkeypatch.setattr("wxtcb._http.retry.RetryPolicy.max_attempts", lambda *_: 1)
    result = cli("token", "--fetch", "--own-token")
    assert result.exit_code == 3
    assert platform.sandbox.world.tokens_issued == 0


def test_rejected_secret_exits_with_3(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the errcode, and not the secret."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", "wrong-secret")
    result = cli("token", "--fetch")
    assert result.exit_code == 3
    assert "40125" in result.stderr
    assert "wrong-secret" not in result.output


def test_ticket_file_replaces_the_variable(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A token is fetched with the ticket of the file."""
    path = tmp_path / "ticket"
    path.write_text(platform.sandbox.ticket + "\n")
    path.chmod(0o600)
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(path))
    assert cli("token", "--fetch").exit_code == 0


@pytest.mark.parametrize(("ticket", "code"), [("", 2), ("ticket@@@wrong", 3)])
def test_exit_code_shows_whether_a_request_was_sent(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, ticket: str, code: int
) -> None:
    """Without a ticket it is 2, and after a rejection by the platform it is 3."""
    path = tmp_path / "ticket"
    path.write_text(ticket)
    path.chmod(0o600)
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(path))
    assert cli("token", "--fetch").exit_code == code


@pytest.mark.usefixtures("measured")
def test_token_is_never_written_to_standard_error(platform: Platform) -> None:
    """If standard output is on a full disk, the token is lost, and the exit code is 1."""
    with Path("/dev/full").open("w") as full:
        process = start("token", "--fetch", "--reveal", stdout=full)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "cannot write to standard output" in err
    assert platform.sandbox.world.credentials.token not in err


def test_interrupted_fetch_reports_its_possible_effect(cli: Cli, platform: Platform) -> None:
    """A token may have been issued; the exit code is 130."""
    platform.sandbox.faults.hang(path=TOKEN)
    with signal_at_request(platform, TOKEN, signal.SIGINT):
        result = cli("token", "--fetch")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("Ctrl-C interrupted the fetch: a token may have been issued")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Configure a token store, and return its path."""
    path = tmp_path / "tokens.db"
    monkeypatch.setenv("WXTCB_TOKEN_STORE", f"sqlite:///{path}")
    return path


def store_ticket(path: Path, platform: Platform) -> None:
    """Write the ticket of the platform to the store."""

    async def write() -> None:
        async with SqliteStore(path) as store:
            ticket = Secret(platform.sandbox.ticket)
            await StateRepository(store, platform.sandbox.component_appid).update(
                lambda state, now: state.with_ticket(ticket, 1, now)
            )

    asyncio.run(write())


def test_state_shows_platform_and_store(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The path of a file is absolute, and the password of a server is masked."""
    assert f"\nPlatform: {platform.sandbox.component_appid}. Token store: none.\n" in cli("token").stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "sqlite:///tokens.db")
    assert f". Token store: sqlite:///{tmp_path}/tokens.db.\n" in cli("token").stdout
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "redis://someone:S3CRET@127.0.0.1:1/0")
    result = cli("token")
    assert ". Token store: redis://***@127.0.0.1:1/0.\n" in result.stdout
    assert "S3CRET" not in result.output
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "postgresql://someone:S3CRET@127.0.0.1:1/shop")
    result = cli("token")
    assert ". Token store: postgresql://***@127.0.0.1:1/shop.\n" in result.stdout
    assert "S3CRET" not in result.output


def test_store_that_a_relative_path_creates_is_a_warning(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is printed once, with the absolute path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "sqlite:///tokens.db")
    printed = cli("call", "describe_envs").stderr.replace("\n", " ")
    assert printed.startswith(f"Warning: created the token store {tmp_path}/tokens.db in the working directory.")
    assert "Warning" not in cli("call", "describe_envs").stderr


def test_token_is_stored_in_postgresql(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    """The first command fetches a token, and later ones find it in the store."""
    monkeypatch.setenv("WXTCB_TOKEN_STORE", postgres_url)
    for _ in range(2):
        assert cli("token", "--fetch").exit_code == 0
        assert cli("call", "describe_envs").exit_code == 0
    assert platform.sandbox.world.tokens_issued == 1


def test_token_is_not_fetched_without_the_store(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the address of the store."""
    monkeypatch.setenv("WXTCB_TOKEN_STORE", "redis://someone:S3CRET@127.0.0.1:1/0")
    result = cli("token", "--fetch")
    assert result.exit_code == 3
    assert "redis://***@127.0.0.1:1/0 cannot be reached" in result.stderr
    assert "store_required" not in result.stderr
    assert platform.sandbox.world.tokens_issued == 0


def test_state_of_an_empty_store(cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """A missing ticket is a problem."""
    monkeypatch.delenv("WXTCB_TICKET")
    result = cli("token")
    assert result.exit_code == 0
    assert "The store contains no token yet.\nTokens fetched within the last hour: 0.\n" in result.stdout
    assert "\nProblem: " in result.stdout
    assert "\nNot ready for " in result.stdout
    assert "\nReady" not in result.stdout


def test_state_with_complete_settings_names_the_option_that_fetches(cli: Cli, platform: Platform, store: Path) -> None:
    """The store contains no token yet, but there is a ticket."""
    result = cli("token")
    assert (
        f"\nReady for {platform.sandbox.url}.\nThe store contains no token yet; --fetch fetches one.\n" in result.stdout
    )


@pytest.mark.parametrize(("ticket", "mode"), [("", 0o600), ("ticket@@@1", 0o644)])
def test_unusable_ticket_file_is_not_ready(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, ticket: str, mode: int
) -> None:
    """Without a store, the file is the only source of tickets."""
    path = tmp_path / "ticket"
    path.write_text(ticket)
    path.chmod(mode)
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(path))
    result = cli("token")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("Not ready: ")
    assert str(path) in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("words", [("token",), ("call", "describe_envs")])
def test_plain_http_is_not_offered(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The option that allows it exists only in Python."""
    monkeypatch.setenv("WXTCB_BASE_URL", "http://nowhere.invalid")
    output = cli(*words).output
    assert "use https" in output
    assert "allow_http" not in output


def test_token_of_the_store_is_shared(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """--fetch fetches it once with the ticket of the store, and the state shows which process did."""
    store_ticket(store, platform)
    monkeypatch.delenv("WXTCB_TICKET")
    assert cli("token", "--fetch").stdout == "The token in the store expires in 2 h 0 min.\n"
    revealed = cli("token", "--fetch", "--reveal").stdout.splitlines()
    assert revealed[1].startswith("1_")
    state = cli("token").stdout.replace("2 h 0", "1 h 59")
    assert f"The token in the store expires in 1 h 59 min; {process_id()} fetched it 0 min " in state
    assert "because there was none.\nThe ticket in the store was received 0 min " in state
    assert "Problem" not in state
    assert platform.sandbox.world.tokens_issued == 1


def test_ticket_variable_is_used_if_the_store_has_no_ticket(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Path
) -> None:
    """A ticket in the store is newer than one that was pasted; the state names the one that is used."""
    assert "\nWXTCB_TICKET is used, because the store contains no ticket" in cli("token").stdout
    store_ticket(store, platform)
    monkeypatch.setenv("WXTCB_TICKET", "ticket@@@old")
    assert "\nThe ticket in the store is used; WXTCB_TICKET is ignored.\n" in cli("token").stdout
    assert cli("token", "--fetch").exit_code == 0
    (tmp_path / "ticket").write_text("ticket@@@old")
    monkeypatch.delenv("WXTCB_TICKET")
    monkeypatch.setenv("WXTCB_TICKET_FILE", str(tmp_path / "ticket"))
    assert "\nThe ticket in the store is used; WXTCB_TICKET_FILE is ignored.\n" in cli("token").stdout


def test_state_of_an_unavailable_store(cli: Cli, platform: Platform, store: Path) -> None:
    """The platform is not ready, and only the problem is shown, because nothing else is known."""
    store.mkdir()
    result = cli("token")
    *_, ready, problem = result.stdout.splitlines()
    assert result.exit_code == 0
    assert ready == f"Not ready for {platform.sandbox.url}: see the problems below."
    assert problem.startswith("Problem: token store")


def test_state_shows_the_rejection_of_another_process(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """The problem has the process, and the command to type."""
    monkeypatch.setenv("WXTCB_TICKET", "ticket@@@wrong")
    assert cli("call", "describe_envs").exit_code == 3
    [problem] = [line for line in cli("token").stdout.splitlines() if line.startswith("Problem: ")]
    assert "61006" in problem
    assert "`wxtcb call api_start_push_ticket`" in problem
    assert process_id() in problem


def test_health_is_described_line_by_line() -> None:
    """An expired token, a fetch in progress and every problem have a line."""
    health = Health(
        token_age=7300.0,
        token_expires_in=-100.0,
        token_fetched_by="web1:7",
        token_fetch_reason="first",
        ticket_age=None,
        fetches_last_hour=3,
        max_fetches_per_hour=30,
        lease_owner="web2:9",
        last_error=None,
        problems=(TokenStoreError("failed"), TicketMissing()),
    )
    assert list(describe_health(health)) == [
        "The token in the store has expired; web1:7 fetched it 2 h 1 min ago, because there was none.",
        "Tokens fetched within the last hour: 3.",
        "web2:9 is fetching a token.",
        f"Problem: {TokenStoreError('failed')}",
        f"Problem: {TicketMissing()}".replace("api.token.api_start_push_ticket", "`wxtcb call api_start_push_ticket`"),
    ]


def test_interrupted_state_prints_nothing_more(
    cli: Cli, platform: Platform, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """The exit code is 130."""

    async def interrupt(_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr("wxtcb.session.Session.health", interrupt)
    result = cli("token")
    assert result.exit_code == 130
    assert result.stdout.splitlines()[-1].startswith("Platform: ")
