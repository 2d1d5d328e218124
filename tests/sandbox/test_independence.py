"""Independence: the sandbox knows the protocol from its facts alone."""

from __future__ import annotations

import re
from pathlib import Path

import wxtcb.sandbox

_IMPORT = re.compile(r"^\s*(?:from|import) (wxtcb(?!\.sandbox)[.\w]*|\.\.[.\w]*)", re.MULTILINE)


def test_sandbox_imports_nothing_of_the_library() -> None:
    """A field misspelt in the library must not be misspelt in the sandbox too, so no code is shared."""
    sources = Path(wxtcb.sandbox.__file__).parent.rglob("*.py")
    assert {path.name: found for path in sources if (found := _IMPORT.findall(path.read_text("utf-8")))} == {}
