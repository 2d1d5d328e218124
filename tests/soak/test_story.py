"""The program of docs/cloud.md needs the same memory with a small file as with a large one."""

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
PRINT_PEAK = f"""

print("peak:", *[line.split()[1] for line in open({str(STATUS)!r}) if line.startswith("VmHWM")])
"""
PROGRAM = "\n\n".join(re.findall(r"^```python\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)) + PRINT_PEAK
IN_MEMORY = PROGRAM.replace('"harvest.mp4")\n', 'open("harvest.mp4", "rb").read())\n')

KILOBYTES = 50 << 10


async def run_program(sandbox, folder, kilobytes, program=PROGRAM):
    """Run the program in a process of its own with a film of that size; return its peak memory in kilobytes."""
    (folder / "greet").mkdir(parents=True)
    (folder / "greet" / "index.js").write_text("exports.main = async event => ({event})\n")
    with (folder / "harvest.mp4").open("wb") as film:
        for _ in range(kilobytes):
            film.write(os.urandom(1 << 10))
    credentials = {
        "WXTCB_BASE_URL": sandbox.session_options["base_url"],
        "WXTCB_COMPONENT_APPID": sandbox.session_options["component_appid"],
        "WXTCB_COMPONENT_APPSECRET": sandbox.session_options["component_appsecret"],
        "WXTCB_TICKET": sandbox.session_options["ticket"],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=folder,
        env={**os.environ, **credentials, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert (folder / "copy.mp4").read_bytes() == (folder / "harvest.mp4").read_bytes()
    return int(output.decode().rpartition("peak: ")[2])


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux reports the peak memory of a process")
async def test_large_file_needs_no_more_memory_than_small_one(start_sandbox, tmp_path):
    """Fifty megabytes are uploaded and downloaded; the sandbox is in another process, so it is not measured."""
    async with start_sandbox() as sandbox:
        small = await run_program(sandbox, tmp_path / "small", 1)
        large = await run_program(sandbox, tmp_path / "large", KILOBYTES)
        held = await run_program(sandbox, tmp_path / "held", KILOBYTES, IN_MEMORY)
    print(f"peak with a small file: {small} kB, with {KILOBYTES} kB: {large} kB; held in memory: {held} kB")
    assert large - small < 8 << 10
    # Otherwise nothing was measured.
    assert held - small > KILOBYTES // 2
