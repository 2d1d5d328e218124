"""The program of docs/cloud.md, with a small file and with a large one: what it costs in memory is the same."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = (ROOT / "docs" / "cloud.md").read_text(encoding="utf-8")
STATUS = Path("/proc/self/status")
TELL = f"""

print("peak:", *[line.split()[1] for line in open({str(STATUS)!r}) if line.startswith("VmHWM")])
"""
PROGRAM = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)) + TELL
HOLDING = PROGRAM.replace('"harvest.mp4")\n', 'open("harvest.mp4", "rb").read())\n')

KILOBYTES = 50 << 10


async def tell_the_story(box, folder, kilobytes, program=PROGRAM):
    """Run the program in a process of its own, with a film of that size; return the kilobytes that it took at most."""
    (folder / "greet").mkdir(parents=True)
    (folder / "greet" / "index.js").write_text("exports.main = async event => ({event})\n")
    with (folder / "harvest.mp4").open("wb") as film:
        for _ in range(kilobytes):
            film.write(os.urandom(1 << 10))
    credentials = {
        "WXTCB_BASE_URL": box.way["base_url"],
        "WXTCB_COMPONENT_APPID": box.way["component_appid"],
        "WXTCB_COMPONENT_APPSECRET": box.way["component_appsecret"],
        "WXTCB_TICKET": box.way["ticket"],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=folder,
        env={**os.environ, **credentials, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert (folder / "copy.mp4").read_bytes() == (folder / "harvest.mp4").read_bytes()
    return int(said.decode().rpartition("peak: ")[2])


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells how much memory a process took at most")
async def test_a_large_file_costs_no_more_memory_than_a_small_one(box_process, tmp_path):
    """Fifty megabytes go up and come down; the sandbox is in another process, so that its share is not counted."""
    async with box_process() as box:
        small = await tell_the_story(box, tmp_path / "small", 1)
        large = await tell_the_story(box, tmp_path / "large", KILOBYTES)
        held = await tell_the_story(box, tmp_path / "held", KILOBYTES, HOLDING)
    print(f"peak with a small file: {small} kB, with {KILOBYTES} kB: {large} kB; held in memory: {held} kB")
    assert large - small < 8 << 10
    assert held - small > KILOBYTES // 2  # else nothing was measured
