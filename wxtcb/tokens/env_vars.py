"""Settings from environment variables, from files that these name, and from a file of variables.

Every variable is named ``WXTCB_...``, or ``WXTCB_<PROFILE>_...`` if a profile is selected.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from wxtcb.errors import InvalidArgument
from wxtcb.secret import Secret
from wxtcb.validation import check_appid, check_base_url, is_valid_unicode

DEFAULT_BASE_URL: Final = "https://api.weixin.qq.com"
PREFIX: Final = "WXTCB_"
PROFILE_VAR: Final = "WXTCB_PROFILE"
ENV_FILE_VAR: Final = "WXTCB_ENV_FILE"

# Names without prefix. With the suffix _FILE, a variable is the path of a file that contains the value.
SESSION_NAMES: Final = (
    "COMPONENT_APPID",
    "COMPONENT_APPSECRET",
    "TICKET",
    "BASE_URL",
    "TOKEN_STORE",
    "TOKEN_STORE_KEY",
)
RECEIVER_NAMES: Final = ("MESSAGE_TOKEN", "ENCODING_AES_KEY", "PREVIOUS_ENCODING_AES_KEY", "PLAIN_PUSH_KEY")
# JOURNAL is read by the command line only.
NAMES: Final = (*SESSION_NAMES, "JOURNAL", *RECEIVER_NAMES)
_MEANINGS: Final = {
    "COMPONENT_APPID": "AppID of the third-party platform",
    "COMPONENT_APPSECRET": "its AppSecret",
    "TICKET": "a component_verify_ticket",
    "TOKEN_STORE": "URL of the token store that all processes share, such as sqlite:////var/lib/shop/tokens.db",
    "MESSAGE_TOKEN": "消息校验Token of WeChat's console",
    "ENCODING_AES_KEY": "消息加解密Key of WeChat's console",
}

# A larger file is not one that contains a secret or variables.
_MAX_FILE_SIZE: Final = 65536
_ASSIGNMENT: Final = re.compile(
    r"""(?:export\s+)?(\w+)=(?:'([^']*)'|"([^"]*)"|([^\s'"#][^'"]*?|))(?:\s+\#.*)?""", re.VERBOSE
)
_logger: Final = logging.getLogger("wxtcb")


@attrs.frozen
class StoreSettings:
    """Token store that is shared with other programs: its URL, and the key of an encrypted one.

    `prefix` is that of the variables which contain them.
    """

    url: Secret
    key: Secret | None
    prefix: str


@attrs.frozen
class PlatformSettings:
    """Credentials and address of a platform; the repr shows no secret.

    `ticket` is a ticket, or the path of a file that another program updates. `prefix` is that of the variables.
    """

    component_appid: str
    component_appsecret: Secret
    ticket: Secret | Path | None
    base_url: str = DEFAULT_BASE_URL
    store: StoreSettings | None = None
    prefix: str = PREFIX


@attrs.frozen
class ReceiverSettings:
    """Credentials of pushes, and the token store for tickets; the repr shows no secret."""

    component_appid: str
    message_token: Secret
    encoding_aes_key: Secret
    previous_encoding_aes_key: Secret | None
    plain_push_key: Secret | None
    store: StoreSettings
    prefix: str = PREFIX


def read_platform(
    environ: Mapping[str, str] | None = None,
    *,
    env_file: str | Path | None = None,
    profile: str | None = None,
    needs_ticket: bool = True,
    allow_http: bool = False,
) -> PlatformSettings:
    """Read the settings of a session; an argument that is None is `os.environ` or the variable for it.

    With *needs_ticket*, a ticket or a token store must be set. Raises one `InvalidArgument` for all errors.
    """
    variables = Variables.read(environ, env_file, profile)
    # No frame of the traceback may contain the environment.
    del environ
    missing = variables.missing("COMPONENT_APPID", "COMPONENT_APPSECRET")
    ticket = variables.ticket_file or variables.values.get("TICKET")
    if needs_ticket and ticket is None and "TOKEN_STORE" not in variables.values:
        missing += [" or ".join(variables.missing("TOKEN_STORE", "TICKET"))]
    errors: list[str] = []
    if variables.ticket_file is not None and not variables.ticket_file.is_file():
        errors.append(f"{variables.prefix}TICKET_FILE: file {variables.ticket_file} does not exist")
    base_url = variables.text("BASE_URL") or DEFAULT_BASE_URL
    try:
        check_base_url(base_url, allow_http=allow_http)
    except InvalidArgument as error:
        errors.append(f"{variables.prefix}BASE_URL: {error}")
        # The frame is part of the traceback, and the URL may contain a password.
        base_url = ""
    if "COMPONENT_APPID" in variables.values:
        try:
            check_appid(f"{variables.prefix}COMPONENT_APPID", variables.text("COMPONENT_APPID"))
        except InvalidArgument as error:
            errors.append(str(error))
    variables.check(missing, errors)
    return PlatformSettings(
        variables.text("COMPONENT_APPID"),
        variables.values["COMPONENT_APPSECRET"],
        ticket,
        base_url,
        variables.store,
        variables.prefix,
    )


def read_receiver(
    environ: Mapping[str, str] | None = None, *, env_file: str | Path | None = None, profile: str | None = None
) -> ReceiverSettings:
    """Read the settings of a ticket receiver as `read_platform` does; raise one `InvalidArgument` for all errors."""
    variables = Variables.read(environ, env_file, profile)
    del environ
    variables.check(variables.missing("COMPONENT_APPID", "MESSAGE_TOKEN", "ENCODING_AES_KEY", "TOKEN_STORE"))
    values = variables.values
    return ReceiverSettings(
        variables.text("COMPONENT_APPID"),
        values["MESSAGE_TOKEN"],
        values["ENCODING_AES_KEY"],
        values.get("PREVIOUS_ENCODING_AES_KEY"),
        values.get("PLAIN_PUSH_KEY"),
        StoreSettings(values["TOKEN_STORE"], values.get("TOKEN_STORE_KEY"), variables.prefix),
        variables.prefix,
    )


@attrs.frozen
class Variables:
    """The variables of one profile, by their names without `prefix`, and the errors of those that cannot be read.

    `hints` are about names in the file that are probably misspelled. If the file has errors, `is_complete` is false:
    any variable that is not set may be in it.
    """

    prefix: str
    values: Mapping[str, Secret]
    ticket_file: Path | None
    env_file: Path | None
    errors: tuple[str, ...]
    hints: tuple[str, ...]
    is_complete: bool

    @classmethod
    def read(cls, environ: Mapping[str, str] | None, env_file: str | Path | None, profile: str | None) -> Variables:
        """Read all variables; those of the process take precedence over those of the file."""
        # Errors are returned, not raised: error reporters print the local variables of every frame of a traceback.
        env = os.environ if environ is None else environ
        errors: list[str] = []
        profile = env.get(PROFILE_VAR, "").strip() if profile is None else profile
        if not re.fullmatch(r"\w*", profile, re.ASCII):
            errors.append(f"{PROFILE_VAR}: a profile consists of letters, digits and '_', not {profile!r}")
        prefix = f"{PREFIX}{profile.upper()}_" if profile else PREFIX
        env_file = env.get(ENV_FILE_VAR, "").strip() if env_file is None else env_file
        file_errors: list[str] = []
        from_file = _read_env_file(Path(env_file), file_errors) if env_file else {}
        # They come first, because they may be the cause of the others.
        errors = [*file_errors, *errors]
        values: dict[str, Secret] = {}
        ticket_file: Path | None = None
        for name in NAMES:
            variable, file_variable = prefix + name, f"{prefix}{name}_FILE"
            # Both from the same source, so that a variable of the process replaces either one in the file.
            source = next((each for each in (env, from_file) if _is_set(each, variable, file_variable)), {})
            value, path = source.get(variable, "").strip(), source.get(file_variable, "").strip()
            if value and path:
                errors.append(f"{variable} and {file_variable} are both set: unset one")
            if path and name == "TICKET":
                # Another program updates this file, so it is read for each token.
                ticket_file = Path(path)
            elif path:
                try:
                    value = read_private_file(Path(path)).strip()
                except InvalidArgument as error:
                    # Set, so that the variable is not reported as missing too.
                    value = "-"
                    errors.append(f"{file_variable}: {error}")
            if value:
                values[name] = Secret(value)
                # Python decodes bytes that are not UTF-8 to surrogates, which no request can carry.
                if not is_valid_unicode(value):
                    errors.append(f"{variable}: the value is not UTF-8")
        if "TOKEN_STORE_KEY" in values and "TOKEN_STORE" not in values:
            errors.append(f"{prefix}TOKEN_STORE_KEY is set, but {prefix}TOKEN_STORE is not: set both or none")
        env_path = Path(env_file).absolute() if env_file else None
        hints = tuple(f"{env_path} has {hint}" for hint in _find_misspelled(from_file, prefix))
        return cls(prefix, values, ticket_file, env_path, tuple(errors), hints, not file_errors)

    @property
    def store(self) -> StoreSettings | None:
        url = self.values.get("TOKEN_STORE")
        return None if url is None else StoreSettings(url, self.values.get("TOKEN_STORE_KEY"), self.prefix)

    def text(self, name: str) -> str:
        """Return the value of a variable that is not secret, or an empty string."""
        return self.values[name].reveal() if name in self.values else ""

    def missing(self, *names: str) -> list[str]:
        """Return the names of the variables that are not set, each with its meaning."""
        return [f"{self.prefix}{name} ({_MEANINGS[name]})" for name in names if name not in self.values]

    def check(self, missing: list[str], errors: list[str] | None = None) -> None:
        """Raise one `InvalidArgument` for the errors of reading, *missing* variables and *errors*, if there are any."""
        found = [f"not set in the environment: {', '.join(missing)}"] if missing and self.is_complete else []
        if found := [*self.errors, *found, *(errors or ())]:
            raise InvalidArgument("; ".join((*found, *self.hints, "no request was sent")))


@contextmanager
def naming_variable(variable: str) -> Iterator[None]:
    """Raise an `InvalidArgument` or `ImportError` as `InvalidArgument` that names the variable which caused it."""
    try:
        yield
    except (InvalidArgument, ImportError) as error:
        raise InvalidArgument(f"{variable}: {error}") from error


@contextmanager
def naming_arguments(prefix: str) -> Iterator[None]:
    """Raise an `InvalidArgument` that begins with the name of an argument with the name of its variable instead."""
    try:
        yield
    except InvalidArgument as error:
        argument, must, rest = str(error).partition(" must be ")
        name = argument.rpartition(" ")[2].upper()
        raise InvalidArgument(f"{prefix}{name}{must}{rest}" if must and name in NAMES else str(error)) from error


def read_private_file(path: Path) -> str:
    """Return the text of a file.

    Raises `InvalidArgument`, which quotes no content, if the file is unreadable, empty, larger than 64 KiB or not
    UTF-8, or if other users of this machine can read or change it.
    """
    try:
        # Non-blocking, or opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise InvalidArgument(f"cannot read {path} ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        if reason := _find_exposure(descriptor, path):
            raise InvalidArgument(reason)
        data = file.read(_MAX_FILE_SIZE + 1)
    try:
        # Editors on Windows write a byte order mark, which is no part of the value.
        text = data.decode("utf-8-sig") if len(data) <= _MAX_FILE_SIZE else ""
        reason = "" if text.strip() else "it is empty" if len(data) <= _MAX_FILE_SIZE else "it is larger than 64 KiB"
    except UnicodeDecodeError:
        text, reason = "", "it is not UTF-8"
    # The frame is part of the traceback, and so would be the decoding error, which contains the bytes.
    del data
    if reason:
        raise InvalidArgument(f"cannot read {path} ({reason})")
    return text


def _find_exposure(descriptor: int, path: Path) -> str | None:
    """Return why an open file may not contain a secret, or None."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file"
    # Windows reports the same mode for every file. The secrets that Kubernetes and Docker mount are readable for all
    # users of the container; their file system is read-only.
    if os.name != "posix" or os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f"{path} belongs to another user (id {status.st_uid}): make it the file of the user of this process"
    # root:GROUP with mode 640 is common for the configuration of a service.
    allowed = 0o740 if status.st_uid == 0 else 0o700
    if (mode := stat.S_IMODE(status.st_mode)) & ~allowed:
        return f"other users can read or change {path} (mode {mode:03o}): chmod 600 it, and replace its secrets"
    return None


def _is_set(source: Mapping[str, str], *names: str) -> bool:
    return any(source.get(name, "").strip() for name in names)


def _find_misspelled(names: Iterable[str], prefix: str) -> Iterator[str]:
    """Iterate over those of *names* that are similar to a variable, each as a question."""
    for name in names:
        # A variable of another profile ends with a known name.
        if name.startswith(prefix) and not name.removesuffix("_FILE").endswith(NAMES):
            # Compared without the prefix, which would make all names similar.
            similar = difflib.get_close_matches(name.removeprefix(prefix), NAMES, n=1, cutoff=0.5)
            yield from (f"{name}: did you mean {prefix}{each}?" for each in similar)


def _read_env_file(path: Path, errors: list[str]) -> dict[str, str]:
    """Return the ``WXTCB_`` variables of a file with lines ``NAME=VALUE``; append errors that quote no value."""
    # Logged in any case: a file that redirects requests to another address must not do so unseen.
    _logger.info("reading settings from %s", path.absolute())
    try:
        text = read_private_file(path)
    except InvalidArgument as error:
        errors.append(f"{ENV_FILE_VAR}: {error}")
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        assignment = _ASSIGNMENT.fullmatch(line.strip())
        if assignment is not None and assignment[1] in (PROFILE_VAR, ENV_FILE_VAR):
            # Ignored, it would leave the credentials of another platform in use.
            errors.append(f"{path}, line {number}: set {assignment[1]} in the environment of the process, not here")
        elif assignment is not None and assignment[1].startswith(PREFIX):
            found[assignment[1]] = assignment[2] or assignment[3] or assignment[4] or ""
        # Other lines belong to other programs, and may have other forms.
        elif line.strip().removeprefix("export ").startswith(PREFIX):
            errors.append(f"{path}, line {number}: expected NAME=VALUE, NAME='VALUE' or NAME=\"VALUE\"")
    return found
