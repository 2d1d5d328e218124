"""The code of functions: zips made of folders, and zips that are given."""

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
from wxtcb.api.functions import Code, packaging


def zipped(**files):
    """Make a zip of files by their names, in which ``__`` stands for a slash and ``_`` for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name, text in files.items():
            opened.writestr(name.replace("__", "/").replace("_", "."), text)
    return buffer.getvalue()


def opened(packed):
    """Open what was packed."""
    return zipfile.ZipFile(io.BytesIO(packed.data))


@pytest.fixture
def folder(tmp_path):
    """Make a folder with code in it."""
    made = tmp_path / "site"
    (made / "lib").mkdir(parents=True)
    (made / "index.js").write_text("exports.main = 1")
    (made / "a.json").write_text("{}")
    (made / "lib" / "b.js").write_text("2")
    return made


async def test_the_code_stands_at_the_root(folder):
    """What is in the folder is in the zip under its path within the folder, in order."""
    packed = await functions.pack(folder)
    assert opened(packed).namelist() == ["a.json", "index.js", "lib/b.js"]
    assert opened(packed).read("lib/b.js") == b"2"


async def test_equal_files_make_an_equal_zip(folder, tmp_path):
    """Neither times nor the place of the folder change a byte."""
    first = await functions.pack(str(folder))
    os.utime(folder / "index.js", (1, 1))
    second = await functions.pack(folder.rename(tmp_path / "elsewhere"))
    assert first == second
    assert first.base64 == second.base64


async def test_what_can_be_run_stays_so(folder):
    """The right to run a file is kept, all others are always the same."""
    (folder / "bootstrap").write_text("#!/bin/sh")
    (folder / "bootstrap").chmod(0o700)
    (folder / "a.json").chmod(0o600)
    modes = {each.filename: oct(each.external_attr >> 16) for each in opened(await functions.pack(folder)).infolist()}
    assert modes == {"a.json": "0o100644", "bootstrap": "0o100755", "index.js": "0o100644", "lib/b.js": "0o100644"}


async def test_what_belongs_to_tools_is_left_out(folder):
    """The names in `DEFAULT_EXCLUDES` stay out at any depth; all else, hidden files too, goes in."""
    (folder / "lib" / ".git").mkdir()
    (folder / "lib" / ".git" / "config").write_text("x")
    (folder / ".DS_Store").write_text("x")
    (folder / ".env").write_text("x")
    assert opened(await functions.pack(folder)).namelist() == [".env", "a.json", "index.js", "lib/b.js"]


async def test_who_packs_says_what_is_left_out(folder):
    """*leave_out* takes the place of the usual names."""
    (folder / ".git").write_text("x")
    assert opened(await functions.pack(folder, exclude=["lib"])).namelist() == [".git", "a.json", "index.js"]


async def test_a_link_within_the_folder_is_its_file(folder):
    """What it names is packed under the name of the link."""
    (folder / "main.js").symlink_to("lib/b.js")
    assert opened(await functions.pack(folder)).read("main.js") == b"2"


@pytest.mark.parametrize("name", ["\udcff.js", "\udcff/a.js"])
async def test_a_name_that_is_not_utf8_is_refused(folder, name):
    """A zip has no place for it; it is shown in letters that can be printed, and how to go on without it."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(wxtcb.InvalidArgument, match=r"^'\\udcff.*leave_out"):
        await functions.pack(folder)
    packed = await functions.pack(folder, exclude=[name.split("/")[0]])
    assert opened(packed).namelist() == ["a.json", "index.js", "lib/b.js"]


@pytest.mark.parametrize("target", ["../secret", "lib", "nothing", "."])
async def test_a_link_that_leads_elsewhere_is_refused(folder, target):
    """Out of the folder, to a folder or to nothing: the link is named, and how to go on without it."""
    (folder.parent / "secret").write_text("x")
    (folder / "link").symlink_to(target)
    with pytest.raises(wxtcb.InvalidArgument, match=r"link is a link to .*leave_out"):
        await functions.pack(folder)
    assert "link" not in opened(await functions.pack(folder, exclude=["link"])).namelist()


async def test_what_is_no_file_is_refused(folder):
    """A pipe would be waited for without end."""
    os.mkfifo(folder / "pipe")
    with pytest.raises(wxtcb.InvalidArgument, match="pipe is no file"):
        await functions.pack(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere", "there is no folder at"), ("site/index.js", "is no folder"), ("empty", "is nothing")],
)
async def test_what_is_no_folder_with_code_is_refused(folder, name, words):
    """One that is missing, a file, and an empty one are told apart."""
    (folder.parent / "empty").mkdir()
    with pytest.raises(wxtcb.InvalidArgument, match=words):
        await functions.pack(folder.parent / name)


async def test_code_in_a_folder_of_the_folder_is_refused(folder):
    """Nothing at the root means that the wrong folder was given: the one above."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"root of the zip.*only folders: site"):
        await functions.pack(folder.parent)


@pytest.mark.parametrize("path", [None, 5, b"site"], ids=repr)
async def test_what_is_no_path_is_refused(path):
    """A folder is a text or a Path."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^folder must be a path"):
        await functions.pack(path)


@pytest.mark.parametrize("names", [".git", None, [""], [5]], ids=repr)
async def test_what_are_no_names_is_refused(folder, names):
    """One text is no list of names."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^leave_out"):
        await functions.pack(folder, exclude=names)


@pytest.fixture
def small(monkeypatch):
    """Let 1,000 bytes be the most that a zip may have."""
    monkeypatch.setattr(packaging, "MAX_ZIP_BYTES", 1000)


@pytest.mark.usefixtures("small")
async def test_a_folder_that_is_too_large_ends_the_packing(folder):
    """The file that was one too many is named, and none after it is read."""
    (folder / "big.bin").write_bytes(os.urandom(70_000))
    (folder / "c.bin").symlink_to("/dev/zero")
    with pytest.raises(wxtcb.InvalidArgument, match=r"too large with big\.bin already; 20 MB"):
        await functions.pack(folder)


@pytest.mark.usefixtures("small")
async def test_a_zip_that_is_too_large_is_refused_with_its_sizes(tmp_path):
    """Its size and that of its base64 are told; a file of that size is not even read."""
    data = zipped(index_js="x" * 2000)
    with pytest.raises(wxtcb.InvalidArgument, match=rf"data is too large: {len(data):,} bytes, and 2,\d\d\d as base64"):
        Code(data)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(wxtcb.InvalidArgument, match=rf"x\.zip is too large: {len(data):,} bytes"):
        await Code.from_zip(tmp_path / "x.zip")


def test_20_megabytes_are_allowed_and_one_byte_more_is_not():
    """The limit is that of the zip itself."""
    data = zipped(index_js="")
    whole = data + b"\0" * (packaging.MAX_ZIP_BYTES - len(data))
    with pytest.raises(wxtcb.InvalidArgument, match="too large: 20,971,521 bytes, and 27,962,028 as base64"):
        Code(whole + b"\0")
    with pytest.raises(wxtcb.InvalidArgument, match="must be a zip; these 20,971,520 bytes are none"):
        Code(b"\0" * packaging.MAX_ZIP_BYTES)


async def test_a_zip_is_taken_from_memory_or_a_file(tmp_path):
    """Both are the same code, and the base64 is that of the very bytes."""
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
async def test_what_is_no_zip_is_refused(value):
    """Also one that was cut off."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"must be a zip; these {len(value)} bytes are none"):
        await Code.from_zip(value)


@given(st.data())
def test_a_broken_zip_is_refused_or_taken(data):
    """Whatever byte of a zip is changed, nothing but `InvalidArgument` comes of it."""
    broken = bytearray(zipped(index_js="1"))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(wxtcb.InvalidArgument):
        Code(bytes(broken))


@pytest.mark.parametrize("value", [None, "text", 5, bytearray(b"PK")], ids=repr)
def test_code_is_bytes(value):
    """All else is refused by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^Code: data must be bytes"):
        Code(value)


@pytest.mark.parametrize("source", [None, 5, ["x.zip"]], ids=repr)
async def test_a_source_is_bytes_or_a_path(source):
    """All else is refused by name."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"^source must be a path"):
        await Code.from_zip(source)


async def test_a_missing_file_is_told(tmp_path):
    """The path is in the message."""
    with pytest.raises(wxtcb.InvalidArgument, match=r"there is no zip file at .*nothing.zip"):
        await Code.from_zip(tmp_path / "nothing.zip")


def test_code_shows_its_size_alone():
    """No repr holds what may be large, or somebody's own."""
    data = zipped(index_js="PRIVATE" * 1000)
    assert repr(Code(data)) == f"<Code of {len(data):,} bytes>"


async def test_no_work_is_done_on_the_loop(folder, monkeypatch):
    """Zips are written, read and encoded in another thread."""
    threads = []

    def noted(data):
        threads.append(threading.current_thread())
        return base64.b64encode(data)

    monkeypatch.setattr(packaging, "b64encode", noted)
    await asyncio.gather(functions.pack(folder), Code.from_zip(zipped(index_js="1")))
    assert len(threads) == 2
    assert threading.main_thread() not in threads
