"""docs/cloud.md: its chapters form one program, which runs against the sandsandbox."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

from wxtcb.sandbox import Sandbox

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
PROGRAM: Final = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL))
OUTPUT: Final = """\
[15] of 1
2 records copied
the copy is the same: True
['films/harvest.mp4']
the site is at tea-house-HOST-1304480914.tcloudbaseapp.com
greet received {'name': 'tea'}
release: success
{80, 20}
3 files deleted, 0 remaining
"""


async def test_chapters_form_one_program(tmp_path: Path) -> None:
    """It uses all groups over sockets, and deletes everything it created."""
    (tmp_path / "harvest.mp4").write_bytes(os.urandom(1 << 20))
    (tmp_path / "greet").mkdir()
    (tmp_path / "greet" / "index.js").write_text("exports.main = async event => ({event})\n")
    async with Sandbox() as sandbox:
        credentials = {
            "WXTCB_BASE_URL": sandbox.url,
            "WXTCB_COMPONENT_APPID": sandbox.component_appid,
            "WXTCB_COMPONENT_APPSECRET": sandbox.component_appsecret,
            "WXTCB_TICKET": sandbox.ticket,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            PROGRAM,
            cwd=tmp_path,
            env={**os.environ, **credentials, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert errors.decode() == ""
    assert re.sub(r"tea-house-\w+", "tea-house-HOST", output.decode()) == OUTPUT
