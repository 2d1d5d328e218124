"""docs/cloud.md keeps its promises: its chapters are one program, which runs from an environment to its end."""

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
SAID: Final = """\
[15] of 1
2 records are copied
the copy is the same: True
['films/harvest.mp4']
the site is at tea-house-HOST-1304480914.tcloudbaseapp.com
greet was given {'name': 'tea'}
the release was a success
{80, 20}
3 files are deleted, 0 are left
"""


async def test_its_chapters_are_one_program_that_runs(tmp_path: Path) -> None:
    """All groups are used over sockets, and everything that was made is taken down again."""
    (tmp_path / "harvest.mp4").write_bytes(os.urandom(1 << 20))
    (tmp_path / "greet").mkdir()
    (tmp_path / "greet" / "index.js").write_text("exports.main = async event => ({event})\n")
    async with Sandbox() as box:
        credentials = {
            "WXTCB_BASE_URL": box.url,
            "WXTCB_COMPONENT_APPID": box.component_appid,
            "WXTCB_COMPONENT_APPSECRET": box.component_appsecret,
            "WXTCB_TICKET": box.ticket,
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
        said, complaints = await process.communicate()
    assert complaints.decode() == ""
    assert re.sub(r"tea-house-\w+", "tea-house-HOST", said.decode()) == SAID
