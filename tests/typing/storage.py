"""Types of file storage; checked by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import assert_type

from wxtcb import Endpoint, Secret, Session
from wxtcb.api import storage
from wxtcb.api.storage import DeletedFile, DownloadedFile, FileLink, FileLinkRequest, StoredFile


async def calls(session: Session) -> None:
    """Use each call."""
    link = await storage.upload_file_link(session, "e", "a")
    assert_type(link, storage.UploadLink)
    assert_type(link.url, Secret)
    assert_type(link.file_id, str)
    links = await storage.batch_download_file(session, "e", [FileLinkRequest(file_id="f", max_age=60)])
    assert_type(links, storage.FileLinks)
    assert_type(links.file_list, tuple[FileLink, ...])
    assert_type(links.failed, Sequence[FileLink])
    assert_type(links.file_list[0].download_url, Secret | None)
    assert_type(links.file_list[0].status, int | None)
    gone = await storage.batch_delete_file(session, "e", (each for each in ["f"]))
    assert_type(gone, storage.DeletedFiles)
    assert_type(gone.delete_list, tuple[DeletedFile, ...])
    page = await storage.get_bucket(session, "e", prefix="a", delimiter="/", marker="b")
    assert_type(page, storage.FileList)
    assert_type(page.contents, tuple[StoredFile, ...])
    assert_type(page.contents[0].size, int)
    assert_type(page.is_truncated, bool)
    assert_type(storage.iter_files(session, "e", prefix="a"), AsyncIterator[StoredFile])
    assert_type(storage.UPLOAD_FILE_LINK, Endpoint[storage.UploadLink])


async def flows(session: Session, chunks: AsyncIterator[bytes]) -> None:
    """Upload and download files."""
    done = await storage.upload_file(session, "e", "a", b"x", progress=lambda sent, total: sent / total)
    assert_type(done, storage.Uploaded)
    assert_type(done.size, int)
    await storage.upload_file(session, "e", "a", Path("x"))
    await storage.upload_file(session, "e", "a", "x", size=3)
    await storage.upload_file(session, "e", "a", chunks, size=3)
    got = await storage.download_file(session, "e", done.file_id, Path("x"))
    assert_type(got, DownloadedFile)
    assert_type(got.path, Path)
    assert_type(Path(got), Path)
    assert_type(await storage.download_url(session, Secret("https://h"), "x"), DownloadedFile)


async def refused(session: Session) -> None:
    """Misuse the calls."""
    await storage.upload_file_link(session, "e")  # type: ignore[call-arg]
    await storage.batch_download_file(session, "e", ["f"])  # type: ignore[list-item]
    await storage.batch_delete_file(session, "e", [1])  # type: ignore[list-item]
    await storage.get_bucket(session, "e", "prefix")  # type: ignore[call-arg]
    await storage.upload_file(session, "e", "a", 7)  # type: ignore[arg-type]
    await storage.upload_file(session, "e", "a", iter([b"x"]), size=1)  # type: ignore[arg-type]
    await storage.upload_file(session, "e", "a", b"x", progress=7)  # type: ignore[arg-type]
    await storage.download_file(session, "e", "f")  # type: ignore[call-arg]
    await storage.download_url(session, b"https://h", "x")  # type: ignore[arg-type]
    FileLinkRequest("f")  # type: ignore[call-arg]
    FileLinkRequest(file_id="f", max_age="7200")  # type: ignore[arg-type]
