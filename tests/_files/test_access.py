"""Access rights of files: links of other users, and directories in which everyone may replace files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wxtcb._files.access import find_replaceable_directory, is_own, resolve_links
from wxtcb.errors import InvalidArgument


@pytest.fixture
def folder(tmp_path):
    """Return a directory without links in its path."""
    return tmp_path.resolve()


@pytest.fixture
def give_away(monkeypatch):
    """Return a function that gives a link to another user; without root, this process becomes another user."""

    def give(path):
        if os.geteuid() == 0:
            os.chown(path, 12345, -1, follow_symlinks=False)
        else:
            own = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: own + 1)

    return give


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", "file"),
        ("missing/file", "missing/file"),
        ("file/x", "file/x"),
        ("direct", "file"),
        ("absolute", "file"),
        ("chain", "file"),
        ("up/../file", "file"),
        ("dir/../dir/./inner", "dir/inner"),
        ("into/inner", "dir/inner"),
        ("into/../file", "file"),
        ("dangling", "missing"),
        ("n" * 300, "n" * 300),
    ],
)
def test_links_are_resolved_as_the_system_does(folder, monkeypatch, path, expected):
    """Relative, absolute, chained and dangling links are followed; a missing file is no error."""
    (folder / "file").touch()
    (folder / "dir").mkdir()
    for name, target in {
        "direct": "file",
        "absolute": folder / "file",
        "chain": "direct",
        "into": "./dir",
        "dangling": "missing",
    }.items():
        (folder / name).symlink_to(target)
    assert resolve_links(folder / path) == folder / expected == (folder / path).resolve()
    monkeypatch.chdir(folder)
    assert resolve_links(Path(path)) == folder / expected


@pytest.mark.parametrize("path", ["link", "link/below", "own", "missing/../link"])
def test_link_of_another_user_is_rejected(folder, give_away, path):
    """It may be anywhere in the path, or behind a link of one's own; the error names it and its owner."""
    (folder / "target").mkdir()
    (folder / "link").symlink_to("target")
    (folder / "own").symlink_to("link")
    give_away(folder / "link")
    with pytest.raises(InvalidArgument, match=r"link.*belongs to another user \(id \d+\)"):
        resolve_links(folder / path)


def test_loop_of_links_is_rejected(folder):
    """The error names a link of the loop."""
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(InvalidArgument, match=r"loop of links at .*/[ab];"):
        resolve_links(folder / "a")


@pytest.mark.parametrize("name", ["posix", "nt"])
def test_every_file_is_own_on_windows(folder, monkeypatch, name):
    """Windows reports no owner."""
    status = folder.stat()
    monkeypatch.setattr(os, "geteuid", lambda: status.st_uid + 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", name)
        own = is_own(status)
    assert own is (name == "nt")


@pytest.mark.parametrize(("mode", "found"), [(0o777, True), (0o1777, False), (0o775, False), (0o702, True)], ids=oct)
def test_directory_in_which_everyone_may_replace_files_is_found(folder, mode, found):
    """The sticky bit prevents it; the write permission of a group is accepted."""
    (folder / "shared" / "inner").mkdir(parents=True)
    (folder / "shared").chmod(mode)
    expected = folder / "shared" if found else None
    assert find_replaceable_directory(folder / "shared" / "inner" / "file") == expected
