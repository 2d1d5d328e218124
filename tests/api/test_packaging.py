"""Code of functions: zips of folders, and given zips."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import threading
import zipfile

import pytest
from hypothesis import given, strategies as st

import wxtcb
from wxtcb.api import functions
from wxtcb.api.functions import Code


def zipped(**files):
    """Return a zip of files by their names, in which ``__`` is a slash and ``_`` a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, text in files.items():
            opened.writestr(name.replace("__", "/").replace("_", "."), text)
    return buffer.getvalue()


def opened(packed):
    """Open a packed zip."""
    return zipfile.ZipFile(io.BytesIO(packed.data))


@pytest.fixture
def folder(tmp_path):
    """Create a folder with code."""
    made = tmp_path / "site"
    (made / "lib").mkdir(parents=True)
    (made / "index.js").write_text("exports.main = 1")
    (made / "a.json").write_text("{}")
    (made / "lib" / "b.js").write_text("2")
    return made


async def test_code_is_at_the_root_of_the_zip(folder):
    """Files have their path within the folder, in order."""
    packed = await functions.pack(folder)
    assert opened(packed).namelist() == ["a.json", "index.js", "lib/b.js"]
    assert opened(packed).read("lib/b.js") == b"2"


async def test_equal_files_give_an_equal_zip(folder, tmp_path):
    """Neither times nor the location of the folder change a byte."""
    first = await functions.pack(str(folder))
    os.utime(folder / "index.js", (1, 1))
    second = await functions.pack(folder.rename(tmp_path / "elsewhere"))
    assert first == second
    assert first.base64 == second.base64


async def test_executable_bit_is_kept(folder):
    """All other permissions are fixed."""
    (folder / "bootstrap").write_text("#!/bin/sh")
    (folder / "bootstrap").chmod(0o700)
    (folder / "a.json").chmod(0o600)
    modes = {each.filename: oct(each.external_attr >> 16) for each in opened(await functions.pack(folder)).infolist()}
    assert modes == {"a.json": "0o100644", "bootstrap": "0o100755", "index.js": "0o100644", "lib/b.js": "0o100644"}


async def test_default_excludes_are_skipped(folder):
    """The names in `DEFAULT_EXCLUDES` are skipped at any depth; other hidden files are packed."""
    (folder / "lib" / ".git").mkdir()
    (folder / "lib" / ".git" / "config").write_text("x")
    (folder / ".DS_Store").write_text("x")
    (folder / ".env").write_text("x")
    assert opened(await functions.pack(folder)).namelist() == [".env", "a.json", "index.js", "lib/b.js"]


async def test_exclude_replaces_the_default(folder):
    """*exclude* replaces the default names."""
    (folder / ".git").write_text("x")
    assert opened(await functions.pack(folder, exclude=["lib"])).namelist() == [".git", "a.json", "index.js"]


async def test_link_within_the_folder_is_packed_as_its_file(folder):
    """Its target is packed under the name of the link."""
    (folder / "main.js").symlink_to("lib/b.js")
    assert opened(await functions.pack(folder)).read("main.js") == b"2"


@pytest.mark.parametrize("name", ["\udcff.js", "\udcff/a.js"])
async def test_name_that_is_not_utf8_is_rejected(folder, name):
    """The message shows the name in printable characters, and suggests exclude."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(wxtcb.InvalidArgument, match=r"udcff.*exclude"):
        await functions.pack(folder)
    packed = await functions.pack(folder, exclude=[name.split("/")[0]])
    assert opened(packed).namelist() == ["a.json", "index.js", "lib/b.js"]


@pytest.mark.parametrize("target", ["../secret", "lib", "nothing", "."])
async def test_link_out_of_the_folder_is_rejected(folder, target):
    """A link out of the folder, to a folder or to nothing is named in the error."""
    (folder.parent / "secret").write_text("x")
    (folder / "link").symlink_to(target)
    with pytest.raises(wxtcb.InvalidArgument, match=r"link is a link to .*exclude"):
        await functions.pack(folder)
    assert "link" not in opened(await functions.pack(folder, exclude=["link"])).namelist()


async def test_special_file_is_rejected(folder):
    """Reading a pipe would block indefinitely."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(wxtcb.InvalidArgument, match="pipe is not a regular file"):
        await functions.pack(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere", "there is no folder at"), ("site/index.js", "not a folder"), ("empty", "it contains nothing")],
)
async def test_folder_without_code_is_rejected(folder, name, words):
    """A missing folder, a file, and an empty folder have different messages."""
    (folder.parent / "empty").mkdir()
    with pytest.raises(wxtcb.InvalidArgument, match=words):
        await functions.pack(folder.parent / name)


async def test_folder_with_code_only_in_subfolders_is_rejected(folder):
    """Nothing at the root means that the parent folder was given by mistake."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"root of the zip.*only folders: site"):
        await functions.pack(folder.parent)


@pytest.mark.parametrize("names", [".git", [""]], ids=repr)
async def test_exclude_must_be_a_list(folder, names):
    """A single string is rejected."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^exclude"):
        await functions.pack(folder, exclude=names)


@pytest.fixture
def small(monkeypatch):
    """Reduce the size limit to 1,000 bytes."""
    monkeypatch.setattr(functions, "MAX_ZIP_BYTES", 1000)


@pytest.mark.usefixtures("small")
async def test_folder_that_is_too_large_is_rejected(folder):
    """The file that exceeds the limit is named, and no further file is read."""
    (folder / "big.bin").write_bytes(os.urandom(70_000))
    (folder / "c.bin").symlink_to("/dev/zero")
    with pytest.raises(wxtcb.InvalidArgument, match=r"too large at big\.bin.*20 MB"):
        await functions.pack(folder)


@pytest.mark.usefixtures("small")
async def test_zip_that_is_too_large_is_rejected(tmp_path):
    """The message has its size and the size of its base64; a file is not even read."""
    data = zipped(index_js="x" * 2000)
    with pytest.raises(wxtcb.InvalidArgument, match=rf"data is too large: {len(data):,} bytes, and 2,\d\d\d as base64"):
        Code(data)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(wxtcb.InvalidArgument, match=rf"x\.zip is too large: {len(data):,} bytes"):
        await Code.from_zip(tmp_path / "x.zip")


def test_limit_is_20_megabytes():
    """The limit applies to the zip itself."""
    data = zipped(index_js="")
    whole = data + b"\0" * (functions.MAX_ZIP_BYTES - len(data))
    with pytest.raises(wxtcb.InvalidArgument, match="too large: 20,971,521 bytes, and 27,962,028 as base64"):
        Code(whole + b"\0")
    with pytest.raises(wxtcb.InvalidArgument, match="not a zip"):
        Code(b"\0" * functions.MAX_ZIP_BYTES)


async def test_zip_is_read_from_memory_or_a_file(tmp_path):
    """Both give equal code with the same base64."""
    data = zipped(index_js="1", lib__a_js="2")
    (tmp_path / "x.zip").write_bytes(data)
    made = [
        await Code.from_zip(data),
        await Code.from_zip(tmp_path / "x.zip"),
        await Code.from_zip(str(tmp_path / "x.zip")),
    ]
    assert made == [Code(data)] * 3
    assert base64.b64decode(made[0].base64) == data


@pytest.mark.parametrize("value", [b"", b"PK", b"no zip at all", zipped(index_js="1")[:-30]], ids=len)
async def test_data_that_is_not_a_zip_is_rejected(value):
    """A truncated zip is rejected too."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"not a zip \({len(value)} bytes"):
        await Code.from_zip(value)


@given(st.data())
def test_corrupt_zip_raises_nothing_but_invalid_argument(data):
    """This holds whichever byte of the zip is changed."""
    broken = bytearray(zipped(index_js="1"))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wxtcb.InvalidArgument):
        Code(bytes(broken))


async def test_missing_zip_file_is_rejected(tmp_path):
    """The path is in the message."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"there is no zip file at .*nothing.zip"):
        await Code.from_zip(tmp_path / "nothing.zip")


def test_repr_of_code_is_its_size():
    """The content is in no repr."""
    data = zipped(index_js="PRIVATE" * 1000)
    assert repr(Code(data)) == f"<Code of {len(data):,} bytes>"


async def test_packing_runs_in_a_worker_thread(folder, monkeypatch):
    """Zips are written, read and encoded in another thread."""
    threads = []

    def noted(data):
        threads.append(threading.current_thread())
        return base64.b64encode(data)

    monkeypatch.setattr(functions, "b64encode", noted)
    await asyncio.gather(functions.pack(folder), Code.from_zip(zipped(index_js="1")))
    assert len(threads) == 2
    assert threading.main_thread() not in threads
