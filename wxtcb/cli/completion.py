"""What a shell is offered when somebody presses Tab."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

from wxtcb.api import endpoints


def complete_endpoint_name(incomplete: str) -> Iterator[str]:
    """Offer the names of the calls."""
    return (endpoint.name for endpoint in endpoints() if endpoint.name.startswith(incomplete))


def complete_body_file(incomplete: str) -> Iterator[str]:
    """Offer files behind an @; what stands there without one is JSON."""
    if incomplete.startswith("@"):
        folder, slash, start = incomplete[1:].rpartition("/")
        for path in sorted(Path(folder + slash).glob("*")):
            if path.name.startswith(start):
                yield f"@{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def join_at_sign_words(environ: MutableMapping[str, str]) -> None:
    """Put an @ and what stands behind it together again: bash counts them as two words."""
    words = environ.get("COMP_WORDS", "")
    if (parted := "\n@\n") in words:
        environ["COMP_WORDS"] = words.replace(parted, "\n@")
        environ["COMP_CWORD"] = str(int(environ["COMP_CWORD"]) - words.count(parted))
