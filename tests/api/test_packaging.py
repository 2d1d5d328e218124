"""Code of functions: zips of folders, and given zips."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import threading
import zipfile
from pathlib import Path

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
    (folder / ".eslintrc").write_text("x")
    assert opened(await functions.pack(folder)).namelist() == [".eslintrc", "a.json", "index.js", "lib/b.js"]


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


@pytest.mark.parametrize("option", ["exclude", "include"])
@pytest.mark.parametrize("names", [".git", [""]], ids=repr)
async def test_exclude_and_include_must_be_lists(folder, names, option):
    """A single string is rejected."""
    with pytest.raises(wxtcb.InvalidArgument, match=rf"^{option}"):
        await functions.pack(folder, **{option: names})


CREDENTIALS = [
    ".ENV",
    ".aws_credentials",
    ".env.production",
    ".npmrc",
    "ID_RSA",
    "apiclient_key.pem",
    "credentials.json",
    "lib/.env",
    "lib/.ssh",
]


@pytest.fixture
def credentials(folder):
    """Put credentials into the folder."""
    (folder / "lib" / ".ssh").mkdir()
    (folder / "lib" / ".ssh" / "config").write_text("SECRET")
    for name in CREDENTIALS[:-1]:
        (folder / name).write_text("SECRET")


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("exclude", [functions.DEFAULT_EXCLUDES, []], ids=["default", "none"])
async def test_credentials_are_left_out(folder, exclude):
    """Their paths are in `left_out` and in the repr, also with another `exclude`."""
    packed = await functions.pack(folder, exclude=exclude)
    assert opened(packed).namelist() == ["a.json", "index.js", "lib/b.js"]
    assert sorted(packed.left_out) == CREDENTIALS
    assert "without .ENV, .aws_credentials" in repr(packed)


@pytest.mark.usefixtures("credentials")
async def test_included_credentials_are_packed(folder):
    """They are included by name or by pattern."""
    packed = await functions.pack(folder, include=[".npmrc", "*.pem", ".ssh"])
    assert opened(packed).namelist() == [
        ".npmrc", "a.json", "apiclient_key.pem", "index.js", "lib/.ssh/config", "lib/b.js"
    ]  # fmt: skip


@pytest.mark.usefixtures("credentials")
async def test_link_to_a_credential_is_left_out(folder):
    """Its own name sounds harmless."""
    (folder / "settings").symlink_to(".npmrc")
    (folder / "more").symlink_to("lib/.ssh/config")
    packed = await functions.pack(folder)
    assert opened(packed).namelist() == ["a.json", "index.js", "lib/b.js"]
    assert {"settings", "more"} <= set(packed.left_out)


def swap_after(monkeypatch, method, checked, swap):
    """Call *swap* once, after *method* of `Path` has returned for the path *checked*."""
    original = getattr(Path, method)

    def late(self, *args, **options):
        found = original(self, *args, **options)
        if self == checked:
            monkeypatch.setattr(Path, method, original)
            swap()
        return found

    monkeypatch.setattr(Path, method, late)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("resolve", "link"),
        ("resolve", "nothing"),
        ("resolve", "pipe"),
        ("lstat", "link"),
        ("lstat", "nothing"),
        ("lstat", "pipe"),
        ("lstat", "other file"),
    ],
)
async def test_file_that_is_swapped_after_the_check_is_rejected(folder, monkeypatch, method, kind):
    """A link, which could lead to a private file of this machine, is not followed."""
    file, other = folder / "index.js", folder.parent / "secret"
    other.write_text("SECRET-OF-THE-SAME-SIZE"[: file.stat().st_size])

    def swap():
        file.unlink()
        if kind == "link":
            file.symlink_to(other)
        elif kind == "other file":
            other.rename(file)
        elif kind == "pipe":
            os.mkfifo(file)

    swap_after(monkeypatch, method, file, swap)
    with pytest.raises((wxtcb.InvalidArgument, FileNotFoundError), match=r"index\.js"):
        await functions.pack(folder)


@pytest.mark.parametrize("method", ["resolve", "lstat"])
async def test_folder_that_is_swapped_after_the_check_is_rejected(folder, monkeypatch, method):
    """A link in place of the folder is not followed, although the file in it is a regular one."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "b.js").write_text("SECRET")

    def swap():
        (folder / "lib").rename(folder.parent / "moved")
        (folder / "lib").symlink_to(outside)

    swap_after(monkeypatch, method, folder / "lib" / "b.js", swap)
    with pytest.raises(wxtcb.InvalidArgument, match=r"lib/b\.js changed"):
        await functions.pack(folder)


@pytest.mark.parametrize("method", ["resolve", "lstat"])
async def test_swapped_file_is_rejected_without_directory_descriptors(folder, monkeypatch, method):
    """Windows cannot open a file relative to a directory; there, the opened file is compared with the checked one."""
    (folder.parent / "secret").write_text("SECRET")
    monkeypatch.setattr(os, "supports_dir_fd", set())
    assert opened(await functions.pack(folder)).read("index.js") == b"exports.main = 1"

    def swap():
        (folder / "index.js").unlink()
        (folder / "index.js").symlink_to("../secret")

    swap_after(monkeypatch, method, folder / "index.js", swap)
    with pytest.raises(wxtcb.InvalidArgument, match=r"index\.js changed"):
        await functions.pack(folder)


@pytest.mark.parametrize("content", ["", "x" * 99], ids=len)
async def test_file_that_changes_its_size_after_the_check_is_rejected(folder, monkeypatch, content):
    """Otherwise a file that another program keeps writing to might have no end."""
    swap_after(monkeypatch, "lstat", folder / "index.js", lambda: (folder / "index.js").write_text(content))
    with pytest.raises(wxtcb.InvalidArgument, match=r"index\.js changed"):
        await functions.pack(folder)


async def test_file_that_grows_while_it_is_read_is_rejected(folder, monkeypatch):
    """It had the expected size when it was opened."""
    fstat = os.fstat

    def late(fd):
        status = fstat(fd)
        if os.path.samestat(status, (folder / "index.js").stat()):
            (folder / "index.js").write_text("x" * 99)
        return status

    monkeypatch.setattr(os, "fstat", late)
    with pytest.raises(wxtcb.InvalidArgument, match=r"index\.js changed"):
        await functions.pack(folder)


async def test_file_that_cannot_be_read_raises_its_own_error(folder, monkeypatch):
    """The reason is that of the system."""
    open_file = os.open

    def deny(path, *args, dir_fd=None):
        if path == "index.js":
            raise PermissionError(13, "Permission denied")
        return open_file(path, *args, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", deny)
    monkeypatch.setattr(os, "supports_dir_fd", {deny})
    with pytest.raises(PermissionError):
        await functions.pack(folder)


async def test_sizes_are_added_before_a_file_is_read(folder, monkeypatch):
    """A sparse file of 3 GB, which takes no space on the disk, would keep a thread busy."""
    (folder / "big.bin").touch()
    os.truncate(folder / "big.bin", 3 << 30)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(wxtcb.InvalidArgument, match=r"too large: 3,221,225,.* of which big\.bin has 3,221,225,472"):
        await functions.pack(folder)


@pytest.fixture
def small(monkeypatch):
    """Reduce the size limit to 1,000 bytes."""
    monkeypatch.setattr(functions, "MAX_ZIP_BYTES", 1000)


@pytest.mark.usefixtures("small")
async def test_folder_that_is_too_large_is_rejected(folder):
    """The file that exceeds the limit is named."""
    (folder / "big.bin").write_bytes(os.urandom(70_000))
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


@pytest.mark.parametrize(
    "name", ["../../etc/cron.d/x", "..", "a/../../x", "/etc/passwd", "\\x", "a\\..\\x", "C:/x", "c:x", "../", "a/.."]
)
def test_zip_with_a_name_that_leads_out_of_the_folder_is_rejected(name):
    """Unpacked without care, such a file replaces another one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.js", "1")
        archive.writestr(name, "2")
    with pytest.raises(wxtcb.InvalidArgument, match=r"outside of the folder"):
        Code(buffer.getvalue())


@pytest.mark.parametrize("name", ["..x", "a..b/c", "a/..x", "...", "a/b..", "中/x"])
def test_zip_with_dots_in_its_names_is_accepted(name):
    """Only a part that is exactly two dots leads out of a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("index.js", "1")
        archive.writestr(name, "2")
    assert Code(buffer.getvalue())


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
