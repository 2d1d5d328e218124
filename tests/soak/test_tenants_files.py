"""Random and oversized tenants files take neither much time nor much memory."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.provision.random_files import check_file, files
from wxtcb.provision import read_tenants

MIB = 2**20
MAX_SECONDS = 1.0
MAX_MEGABYTES = 200
# Prints the seconds of CPU and the peak of memory in megabytes of reading a file.
PROGRAM = """
import resource, sys, time
from wxtcb.provision import TenantsFileError, read_tenants
started = time.process_time()
try:
    read_tenants(sys.argv[1])
except TenantsFileError:
    pass
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time() - started, peak / 1024)
"""
OVERSIZED = {
    "lines.csv": b"tenant\n" + b"\n" * 99_000,
    "columns.csv": b"tenant" + b"," * (8 * MIB - 10),
    "repeated column.csv": b"alias," * (8 * MIB // 6 - 1),
    "problems.csv": b"tenant,alias\n" + b"a,1\n" * 99_990,
    "quotes.csv": b'tenant\n"' + b'""' * (4 * MIB - 20),
    "long row.csv": b'tenant\n"\n' + b'","' * (2 * MIB),
    "separators.csv": b"tenant,appids\n" + (b"a," + b";" * 32_000 + b"\n") * 260,
    "appids.csv": b"tenant,appids\n" + (b"a," + b"x;" * 5_000 + b"\n") * 800,
    "noise.csv": random.Random(1).randbytes(8 * MIB),
    "many values.jsonl": (b'{"tenant":"a","appids":[' + b"1," * 4_900 + b"1]}\n") * 800,
    "deep.jsonl": b'{"tenant":' + b"[" * 500_000 + b"]" * 500_000 + b"}\n",
    "fields.jsonl": b"{" + b",".join(b'"k%d":1' % number for number in range(90_000)) + b"}\n",
    "repeated fields.jsonl": (b"{" + b",".join([b'"k":1'] * 170_000) + b"}\n") * 7,
    "services.jsonl": (b'{"tenant":"a","services":[' + b",".join([b'{"x":1}'] * 900) + b"]}\n") * 900,
    "dots.toml": b"[" + b"a." * 500_000 + b"a]\n",
    "many dots.toml": b"\n".join(b"a." * 31 + b"k%d = 1" % number for number in range(14_000)),
    "tables.toml": b"[[tenant]]\n" * 90_000,
    "arrays.toml": b"tenant=[" + b"1," * 500_000 + b"]",
    "nested.toml": b"a=" + b"[" * 500_000 + b"]" * 500_000,
    "key.toml": b"a" * (MIB - 10),
    "number.toml": b"[[tenant]]\ntenant='a'\nsource_type=0x" + b"f" * 1_000_000,
    "escapes.toml": b'a="' + b"\\u4e00" * 160_000 + b'"',
}


def test_ten_thousand_random_files(scale, tmp_path_factory):
    """Each gives tenants or a `TenantsFileError`, in less than a second of CPU."""
    folder, slowest = tmp_path_factory.mktemp("random"), 0.0

    @settings(max_examples=round(10_000 * scale))
    @given(files())
    def check(file):
        nonlocal slowest
        started = time.process_time()
        check_file(folder, file)
        slowest = max(slowest, time.process_time() - started)

    check()
    print(f"slowest of the random files: {slowest:.3f} s of CPU")
    assert slowest < MAX_SECONDS


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak memory of a process")
def test_oversized_files(tmp_path):
    """Files that are made to be slow or large are read or refused within the limits, in a process of their own."""
    for name, data in OVERSIZED.items():
        path = tmp_path / name
        path.write_bytes(data)
        output = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, check=True, text=True)
        seconds, megabytes = map(float, output.stdout.split())
        print(f"{name}: {seconds:.2f} s of CPU, {megabytes:.0f} MB")
        assert (seconds < 2 * MAX_SECONDS, megabytes < MAX_MEGABYTES) == (True, True), name


def test_large_valid_file(tmp_path):
    """A file of 99,000 tenants is read."""
    path = tmp_path / "tenants.csv"
    rows = (f"t{number},a{number},wx{number:016},web;api" for number in range(99_000))
    path.write_text("\n".join(("tenant,alias,appids,services", *rows)))
    assert len(read_tenants(path)) == 99_000
