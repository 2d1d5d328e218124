"""Canaries: one made-up secret of each kind that the library can hold, and a search for them in texts."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

# A shorter run of a secret does not help to guess the rest.
PART: Final = 12


def _made_up(name: str, length: int = 40) -> str:
    return "".join(random.Random(name).choices(string.ascii_letters + string.digits, k=length))


CANARIES: Final[Mapping[str, str]] = {
    "app secret": _made_up("app secret", 32),
    "app secret in a file": _made_up("app secret in a file", 32),
    "ticket": f"ticket@@@{_made_up('ticket')}",
    "ticket in a file": f"ticket@@@{_made_up('ticket in a file')}",
    "pushed ticket": f"ticket@@@{_made_up('pushed ticket')}",
    "own token": _made_up("own token", 100),
    "token of a service": _made_up("token of a service", 100),
    "stored token": _made_up("stored token", 100),
    "message token": _made_up("message token", 32),
    "EncodingAESKey": _made_up("EncodingAESKey", 42) + "A",
    "previous EncodingAESKey": _made_up("previous EncodingAESKey", 42) + "A",
    "plain push key": _made_up("plain push key"),
    "store key": _made_up("store key", 42) + "A=",
    "password of Redis": _made_up("password of Redis"),
    "password of PostgreSQL": _made_up("password of PostgreSQL"),
    "password of the proxy": _made_up("password of the proxy"),
    "password in base_url": _made_up("password in base_url"),
    "variable of a function": _made_up("variable of a function"),
    "variable of a container": _made_up("variable of a container"),
    "variable of a server version": _made_up("variable of a server version"),
    "variable of a sidecar": _made_up("variable of a sidecar"),
    "password of Elasticsearch": _made_up("password of Elasticsearch"),
    "password of a registry": _made_up("password of a registry"),
    "password of a container registry": _made_up("password of a container registry"),
    "signature of an upload URL": _made_up("signature of an upload URL"),
    "authorization of an upload": _made_up("authorization of an upload"),
    "token of an upload": _made_up("token of an upload"),
    "file id of an upload": _made_up("file id of an upload"),
    "signature of a download URL": _made_up("signature of a download URL"),
    "signature of an export URL": _made_up("signature of an export URL"),
    "query of a failed request": _made_up("query of a failed request"),
    "AuthorizationCode": _made_up("AuthorizationCode"),
    "PreAuthCode": _made_up("PreAuthCode"),
}


def _forms(value: str) -> Iterable[str]:
    """Yield *value* as it may be written: plain, in base64 at any position, in hexadecimal, and decoded as a key."""
    data = value.encode()
    yield value
    yield data.hex()
    for offset in range(3):
        # The first and the last characters depend on what surrounds the value.
        yield base64.b64encode(b"\0" * offset + data).decode()[4:-4]
    if len(value) in (43, 44):
        key = base64.urlsafe_b64decode(value.ljust(44, "="))
        yield key.hex()
        yield repr(key)[2:-1]


def _parts(secrets: Mapping[str, str]) -> dict[str, str]:
    return {
        form[start : start + PART]: name
        for name, value in secrets.items()
        for form in _forms(value)
        for start in range(len(form) - PART + 1)
    }


_CANARY_PARTS: Final = _parts(CANARIES)


def find_canaries(texts: Iterable[str], others: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the canaries, and of the secrets *others*, of which 12 characters in a row are in *texts*.

    Each name is followed by the beginning of the line in which it was found.
    """
    parts = _CANARY_PARTS | _parts(others) if others else _CANARY_PARTS
    lines = {line for text in texts for line in text.splitlines()}
    lines |= {unquote(line) for line in lines if "%" in line}
    found = dict[str, str]()
    for line in lines:
        for start in range(len(line) - PART + 1):
            if (name := parts.get(line[start : start + PART])) and name not in found:
                found[name] = line[max(0, start - 300) : start]
    return [f"{name}: {line}" for name, line in found.items()]
