"""Access rights of files: who owns them, and who could replace them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from wxtcb.errors import InvalidArgument

# As Linux does; macOS stops at 32.
_MAX_LINKS: Final = 40


def is_own(status: os.stat_result) -> bool:
    """Return whether a file belongs to the user of this process; always True on Windows, which reports no owner."""
    return os.name != "posix" or status.st_uid == os.geteuid()


def resolve_links(path: Path) -> Path:
    """Return *path* as an absolute path without symbolic links and ``..``; the file need not exist.

    Raises `InvalidArgument` for a loop of links, and for a link that belongs to another user than root and the user of
    this process: in a shared directory, anyone can create a link that leads to a file of their choice.
    """
    absolute = path.absolute()
    resolved, pending, links = Path(absolute.anchor), list(reversed(absolute.parts[1:])), 0
    while pending:
        name = pending.pop()
        candidate = resolved.parent if name == ".." else resolved / name
        try:
            status = candidate.lstat()
        # Whether a missing or unreadable file is an error is decided by the caller.
        except OSError:
            status = None
        if status is None or not stat.S_ISLNK(status.st_mode):
            resolved = candidate
            continue
        if status.st_uid and not is_own(status):
            raise InvalidArgument(
                f"{path} leads through the link {candidate}, which belongs to another user (id {status.st_uid}); "
                "pass the path of the file itself, or remove the link"
            )
        links += 1
        if links > _MAX_LINKS:
            raise InvalidArgument(f"{path} leads through a loop of links at {candidate}; remove one of them")
        target = candidate.readlink()
        resolved = Path(target.anchor) if target.is_absolute() else resolved
        pending += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return resolved


def find_replaceable_directory(path: Path) -> Path | None:
    """Return the first directory above *path* in which every user may replace files, or None.

    The sticky bit, as /tmp has it, forbids that. Directories that only a group may write to are accepted: with a umask
    of 002, a common default, every directory is one.
    """
    for directory in path.parents:
        mode = directory.stat().st_mode
        if os.name == "posix" and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return directory
    return None
