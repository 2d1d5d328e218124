"""Settings from environment variables, from files, and from a file of variables."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.fernet import Fernet

import wxtcb
from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.tokens.env_vars import read_platform, read_receiver
from wxtcb.tokens.store_urls import StoreURL
from wxtcb.tokens.ticket import TicketReceiver

ENV = {
    "WXTCB_COMPONENT_APPID": " wx0123456789abcdef ",
    "WXTCB_COMPONENT_APPSECRET": "hush-7f3a",
    "WXTCB_TICKET": "ticket@@@1",
}
PUSHES = {
    "WXTCB_MESSAGE_TOKEN": "S1GNS1GNS1GNS1GNS1GNS1GNS1GNS1GN",
    "WXTCB_ENCODING_AES_KEY": "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the variables of the machine from the tests."""
    for name in [name for name in os.environ if name.startswith("WXTCB_")]:
        monkeypatch.delenv(name)


def write_private(path: Path, text: str | bytes) -> Path:
    """Write a file that only its owner can read."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


SetEnv = Callable[[Mapping[str, str]], None]


@pytest.fixture
def set_env(monkeypatch: pytest.MonkeyPatch) -> SetEnv:
    """Return a function that sets the environment variables of this process."""

    def set_all(variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def inner_frames(error: BaseException | None) -> str:
    """Return the frames of *error* and its causes with their local variables, without that of the test."""
    frames: list[str] = []
    while error is not None:
        walked = [each for each in traceback.walk_tb(error.__traceback__) if each[0].f_code.co_filename != __file__]
        frames += traceback.StackSummary.extract(iter(walked), capture_locals=True).format()
        frames.append(repr(vars(error)))
        error = error.__cause__ or error.__context__
    return "".join(frames)


def test_values_are_stripped() -> None:
    """The default platform is the real one, and the repr shows no secret."""
    settings = read_platform(ENV)
    assert (settings.component_appid, settings.base_url) == ("wx0123456789abcdef", "https://api.weixin.qq.com")
    assert "hush-7f3a" not in repr(settings)
    assert "ticket@@@1" not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WXTCB_COMPONENT_APPID": ""}, "WXTCB_COMPONENT_APPID (AppID of the third-party platform);"),
        ({"WXTCB_TICKET": " "}, "not set in the environment: WXTCB_TOKEN_STORE ("),
        ({"WXTCB_TICKET_FILE": __file__}, "WXTCB_TICKET and WXTCB_TICKET_FILE are both set"),
        ({"WXTCB_TICKET": "", "WXTCB_TICKET_FILE": "/no/such"}, "WXTCB_TICKET_FILE: file /no/such does not exist"),
        ({"WXTCB_TOKEN_STORE_KEY": "k"}, "WXTCB_TOKEN_STORE_KEY is set, but WXTCB_TOKEN_STORE is not"),
        ({"WXTCB_TOKEN_STORE": "redis://\udcff"}, "WXTCB_TOKEN_STORE: the value is not UTF-8"),
        ({"WXTCB_COMPONENT_APPID": "wx\udcff"}, "WXTCB_COMPONENT_APPID: the value is not UTF-8"),
        ({"WXTCB_COMPONENT_APPSECRET": "\udcff"}, "WXTCB_COMPONENT_APPSECRET: the value is not UTF-8"),
        ({"WXTCB_TICKET": "ticket@@@\udce9"}, "WXTCB_TICKET: the value is not UTF-8"),
        ({"WXTCB_BASE_URL": "http://127.0.0.1/\udcff"}, "WXTCB_BASE_URL: the value is not UTF-8"),
        ({"WXTCB_BASE_URL": "ftp://x"}, "WXTCB_BASE_URL: base_url"),
        ({"WXTCB_BASE_URL": "http://example.com"}, "WXTCB_BASE_URL: base_url"),
        ({"WXTCB_PROFILE": "a-b"}, "WXTCB_PROFILE: a profile consists of letters, digits and '_', not 'a-b'"),
        ({"WXTCB_ENV_FILE": "/no/such"}, "WXTCB_ENV_FILE: cannot read /no/such (No such file or directory)"),
    ],
)
def test_error_names_the_variable(variables: dict[str, str], message: str) -> None:
    """Missing, contradictory and invalid variables are rejected."""
    with pytest.raises(InvalidArgument) as caught:
        read_platform({**ENV, **variables})
    assert message in str(caught.value)


def test_one_error_lists_all_missing_variables_with_their_meaning() -> None:
    """A session and a receiver name all that they need, also those that their own profile needs."""
    with pytest.raises(InvalidArgument) as caught:
        wxtcb.Session.from_env()
    for name, meaning in (("COMPONENT_APPID", "AppID"), ("COMPONENT_APPSECRET", "its AppSecret")):
        assert f"WXTCB_{name} ({meaning}" in str(caught.value)
    assert " or WXTCB_TICKET (a component_verify_ticket); no request was sent" in str(caught.value)
    with pytest.raises(InvalidArgument) as caught:
        TicketReceiver.from_env(profile="shop")
    for name in ("COMPONENT_APPID", "MESSAGE_TOKEN", "ENCODING_AES_KEY", "TOKEN_STORE"):
        assert f"WXTCB_SHOP_{name} (" in str(caught.value)


def test_session_has_the_settings_and_the_options(tmp_path: Path, set_env: SetEnv) -> None:
    """A variable that is not set keeps the default of the session."""
    url = f"sqlite:///{tmp_path}/tokens.db"
    set_env(ENV)
    assert wxtcb.Session.from_env().token_store is None
    set_env({"WXTCB_TOKEN_STORE": url})
    session = wxtcb.Session.from_env(connections=7)
    assert session.component_appid == "wx0123456789abcdef"
    assert session.component_appsecret == Secret("hush-7f3a")
    assert session.token_store == StoreURL(Secret(url))
    assert session.connections == 7


def test_allow_http_applies_to_the_base_url(set_env: SetEnv) -> None:
    """It is an option of the session, not a variable."""
    set_env({**ENV, "WXTCB_BASE_URL": "http://platform.internal"})
    assert wxtcb.Session.from_env(allow_http=True).base_url == "http://platform.internal"


@pytest.mark.parametrize(
    ("url", "key", "message"),
    [
        ("mysql://u:S3CRET@host", "", "^WXTCB_TOKEN_STORE: .*sqlite"),
        ("sqlite:///{}/x.db", "S3CRET", "^WXTCB_TOKEN_STORE_KEY: .*Fernet"),
        ("sqlite:///{}/no/x.db", "", "^WXTCB_TOKEN_STORE: directory .*/no does not exist"),
    ],
)
def test_invalid_store_is_rejected(set_env: SetEnv, tmp_path: Path, url: str, key: str, message: str) -> None:
    """The message does not contain URL or key, which may contain a password."""
    set_env({**ENV, **PUSHES, "WXTCB_TOKEN_STORE": url.format(tmp_path), "WXTCB_TOKEN_STORE_KEY": key})
    for build in (wxtcb.Session.from_env, TicketReceiver.from_env):
        with pytest.raises(InvalidArgument, match=message) as caught:
            build()
        assert "S3CRET" not in str(caught.value)


async def test_receiver_writes_to_the_encrypted_store_of_the_session(tmp_path: Path, set_env: SetEnv) -> None:
    """Both use the store and the key of the environment variables."""
    store = {"WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/t.db", "WXTCB_TOKEN_STORE_KEY": Fernet.generate_key().decode()}
    set_env({**ENV, **PUSHES, **store, "WXTCB_TICKET": ""})
    async with TicketReceiver.from_env() as receiver:
        assert await receiver.newest_ticket() is None
        async with wxtcb.Session.from_env() as session:
            assert (await session.health()).ticket_age is None
    assert receiver.token_store == session.token_store


@pytest.mark.parametrize("name", ["COMPONENT_APPID", "ENCODING_AES_KEY"])
def test_invalid_value_of_the_receiver_names_its_variable(tmp_path: Path, set_env: SetEnv, name: str) -> None:
    """The receiver itself would name its argument."""
    settings = {**ENV, **PUSHES, "WXTCB_TOKEN_STORE": f"sqlite:///{tmp_path}/t.db"}
    environ = {key.replace("WXTCB_", "WXTCB_P_"): value for key, value in settings.items()}
    environ[f"WXTCB_P_{name}"] = "!"
    set_env(environ)
    with pytest.raises(InvalidArgument, match=f"^WXTCB_P_{name}"):
        TicketReceiver.from_env(profile="p")


def test_profile_selects_the_variables_of_one_platform() -> None:
    """No variable without the profile is used, so that the credentials of two platforms are never mixed."""
    environ = {"WXTCB_PROFILE": "shop", "WXTCB_TICKET": "other"}
    environ |= {name.replace("WXTCB_", "WXTCB_SHOP_"): value for name, value in ENV.items()}
    assert read_platform(environ).ticket == Secret("ticket@@@1")
    assert read_platform(ENV, profile="").prefix == "WXTCB_"
    del environ["WXTCB_SHOP_COMPONENT_APPID"]
    with pytest.raises(InvalidArgument, match=r"WXTCB_SHOP_COMPONENT_APPID \("):
        read_platform({**environ, "WXTCB_COMPONENT_APPID": "wx0123456789abcdef"})


def test_every_variable_may_be_in_a_file(tmp_path: Path) -> None:
    """The value is the content of the file without surrounding whitespace."""
    environ: dict[str, str] = {}
    for name, value in {**ENV, **PUSHES, "WXTCB_TOKEN_STORE": "sqlite:///t.db"}.items():
        if name != "WXTCB_TICKET":
            environ[f"{name}_FILE"] = str(write_private(tmp_path / name, f"{value}\n"))
    assert read_platform(environ).component_appsecret == Secret("hush-7f3a")
    assert read_receiver(environ).message_token == Secret(PUSHES["WXTCB_MESSAGE_TOKEN"])


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"s", 0o644, "(mode 644): chmod 600 it, and replace its secrets"),
        (b"s", 0o620, "(mode 620)"),
        (b"", 0o600, "(it is empty)"),
        (b"\xef\xbb\xbf\n", 0o600, "(it is empty)"),
        (b"S3CRET\xff", 0o600, "(it is not UTF-8)"),
        (b"S3CRET" * 20_000, 0o600, "(it is larger than 64 KiB)"),
        (None, 0o600, "(No such file or directory)"),
    ],
)
def test_unusable_secret_file_is_rejected(tmp_path: Path, content: bytes | None, mode: int, message: str) -> None:
    """The message names variable and file, and no traceback contains a byte of the file."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(InvalidArgument) as caught:
        read_platform({**ENV, "WXTCB_COMPONENT_APPSECRET": "", "WXTCB_COMPONENT_APPSECRET_FILE": str(path)})
    assert "WXTCB_COMPONENT_APPSECRET_FILE: " in str(caught.value)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "S3CRET" not in inner_frames(caught.value)


def test_named_pipe_is_no_secret_file(tmp_path: Path) -> None:
    """It is rejected at once, instead of waiting for a writer."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(InvalidArgument, match="is not a regular file"):
        read_platform({**ENV, "WXTCB_COMPONENT_APPSECRET": "", "WXTCB_COMPONENT_APPSECRET_FILE": f"{tmp_path}/pipe"})


def fake_status(monkeypatch: pytest.MonkeyPatch, *, owner: int, mode: int, read_only: bool = False) -> None:
    """Report another owner and mode for every open file, and whether its file system is read-only."""
    status = SimpleNamespace(st_mode=0o100000 | mode, st_uid=owner)
    monkeypatch.setattr("wxtcb.tokens.env_vars.os.fstat", lambda _: status)
    flags = SimpleNamespace(f_flag=os.ST_RDONLY if read_only else 0)
    monkeypatch.setattr("wxtcb.tokens.env_vars.os.fstatvfs", lambda _: flags)


@pytest.mark.parametrize(
    ("owner", "mode", "read_only", "accepted"),
    [
        (0, 0o640, False, True),  # root:app, common for services
        (0, 0o644, False, False),
        (0, 0o660, False, False),
        (4321, 0o600, False, False),
        (0, 0o444, True, True),  # a secret of Kubernetes or Docker
        (4321, 0o644, True, True),  # a secret of Docker Compose
    ],
)
def test_owner_and_mode_decide_whether_a_file_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, owner: int, mode: int, read_only: bool, accepted: bool
) -> None:
    """On a read-only file system, as of mounted secrets, every owner and mode is accepted."""
    path = write_private(tmp_path / "secret", "hush")
    environ = {**ENV, "WXTCB_COMPONENT_APPSECRET": "", "WXTCB_COMPONENT_APPSECRET_FILE": str(path)}
    with monkeypatch.context() as patch:
        fake_status(patch, owner=owner, mode=mode, read_only=read_only)
        patch.setattr("wxtcb.tokens.env_vars.os.geteuid", lambda: 1000)
        try:
            read_platform(environ)
        except InvalidArgument:
            assert not accepted
        else:
            assert accepted


def test_mode_is_not_checked_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows reports the same mode for every file."""
    path = write_private(tmp_path / "secret", "hush")
    path.chmod(0o644)
    with monkeypatch.context() as patch:
        patch.setattr("wxtcb.tokens.env_vars.os", SimpleNamespace(**{**vars(os), "name": "nt"}))
        environ = {**ENV, "WXTCB_COMPONENT_APPSECRET": "", "WXTCB_COMPONENT_APPSECRET_FILE": str(path)}
        assert read_platform(environ).component_appsecret == Secret("hush")


def test_file_of_variables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Variables of the process take precedence. The log names the file, and no value."""
    lines = [
        "# a comment",
        "export WXTCB_COMPONENT_APPID='wx0123456789abcdef'",
        'WXTCB_COMPONENT_APPSECRET="hush # 7f3a"  # a comment',
        "WXTCB_TICKET=ticket@@@1#x # a comment",
        "WXTCB_BASE_URL=",
        "OTHER PROGRAM: 'x",
    ]
    path = write_private(tmp_path / ".env", "\r\n".join(lines))
    with caplog.at_level(logging.INFO, "wxtcb"):
        settings = read_platform({"WXTCB_ENV_FILE": str(path), "WXTCB_COMPONENT_APPID": "wxfedcba9876543210"})
    assert settings.component_appid == "wxfedcba9876543210"
    assert settings.component_appsecret.reveal() == "hush # 7f3a"
    assert settings.ticket == Secret("ticket@@@1#x")
    assert settings.base_url == "https://api.weixin.qq.com"
    assert caplog.messages == [f"reading settings from {path}"]
    assert wxtcb.Session.from_env(env_file=path).component_appid == "wx0123456789abcdef"


def test_variable_of_the_process_replaces_the_file_variable_of_the_file(tmp_path: Path) -> None:
    """They are two ways to set the same value."""
    path = write_private(tmp_path / ".env", "WXTCB_COMPONENT_APPSECRET_FILE=/no/such\n")
    assert read_platform(ENV, env_file=path).component_appsecret == Secret("hush-7f3a")


@pytest.mark.parametrize("line", ["WXTCB_TICKET: x", "WXTCB_TICKET='S3CRET", 'export WXTCB_TICKET="S3CRET" x'])
def test_invalid_line_is_rejected(tmp_path: Path, line: str) -> None:
    """The message has the number of the line, and not its content."""
    path = write_private(tmp_path / ".env", f"\n\nA=1\n{line}\n")
    with pytest.raises(InvalidArgument, match=r"line 4: expected NAME=VALUE") as caught:
        read_platform(ENV, env_file=path)
    assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize("name", ["PROFILE", "ENV_FILE"])
def test_file_of_variables_cannot_select_what_is_read(tmp_path: Path, name: str) -> None:
    """The variable would be ignored, and the settings of another platform might be used."""
    path = write_private(tmp_path / ".env", f"\nexport WXTCB_{name}='shop'\n")
    with pytest.raises(InvalidArgument, match=rf"line 2: set WXTCB_{name} in the environment of the process") as caught:
        read_platform(ENV, env_file=path)
    assert "shop" not in str(caught.value)


def test_byte_order_mark_is_no_part_of_a_value(tmp_path: Path) -> None:
    """Editors on Windows write one at the start of a file."""
    secret = write_private(tmp_path / "secret", "\ufeffhush")
    path = write_private(tmp_path / ".env", f"\ufeffWXTCB_COMPONENT_APPSECRET_FILE={secret}\n")
    settings = read_platform({**ENV, "WXTCB_COMPONENT_APPSECRET": ""}, env_file=path)
    assert settings.component_appsecret.reveal() == "hush"


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("A=1\nWXTCB_TICKET: x\n", 0o600, "{}, line 2: expected NAME=VALUE"),
        ("WXTCB_TICKET=x\n", 0o644, "WXTCB_ENV_FILE: other users can read or change {} (mode 644)"),
    ],
)
def test_what_an_invalid_file_may_contain_is_not_reported_as_missing(
    tmp_path: Path, text: str, mode: int, message: str
) -> None:
    """Its problem is the first that the message has, and also comes before an invalid profile."""
    path = write_private(tmp_path / ".env", text)
    path.chmod(mode)
    for read in (read_platform, read_receiver):
        with pytest.raises(InvalidArgument) as caught:
            read({"WXTCB_PROFILE": "a-b"}, env_file=path)
        assert str(caught.value).startswith(message.format(path))
        assert "not set" not in str(caught.value)


def test_misspelled_name_in_the_file_is_shown_with_an_error(tmp_path: Path) -> None:
    """Neither a variable of another profile is one, nor a name that resembles no variable."""
    path = write_private(
        tmp_path / ".env", "WXTCB_COMPONENT_SECRET=S3CRET\nWXTCB_TEA_COMPONENT_APPID=wx1\nWXTCB_Q=S3CRET\n"
    )
    with pytest.raises(InvalidArgument) as caught:
        read_platform({"WXTCB_TICKET": "ticket@@@1"}, env_file=path)
    assert f"{path} has WXTCB_COMPONENT_SECRET: did you mean WXTCB_COMPONENT_APPSECRET?" in str(caught.value)
    assert str(caught.value).count("did you mean") == 1
    assert "S3CRET" not in inner_frames(caught.value)


def test_file_of_variables_in_the_working_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another user left there cannot send the credentials to another address."""
    write_private(tmp_path / ".env", "WXTCB_BASE_URL=https://attacker.example\n")
    monkeypatch.chdir(tmp_path)
    assert read_platform(ENV).base_url == "https://api.weixin.qq.com"


def test_error_shows_no_value_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error reporters print the local variables of every frame."""
    monkeypatch.setenv("WXTCB_COMPONENT_APPSECRET", "S3CRET")
    for build in (wxtcb.Session.from_env, TicketReceiver.from_env, lambda: read_platform(os.environ)):
        with pytest.raises(InvalidArgument) as caught:
            build()
        assert "S3CRET" not in inner_frames(caught.value)
