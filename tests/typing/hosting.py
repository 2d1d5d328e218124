"""Types of static hosting; checked by type checkers, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from wxtcb import Done, Secret, Session
from wxtcb.api import hosting
from wxtcb.api.storage import FileList, StoredFile


async def calls(session: Session) -> None:
    """Use each call."""
    assert_type(await hosting.create_static_store(session, "e"), Done)
    stores = await hosting.describe_static_store(session, "e")
    assert_type(stores, hosting.StaticStores)
    assert_type(stores.data, tuple[hosting.StaticStore, ...])
    assert_type(stores.data[0].region, str)
    assert_type(await hosting.static_file_list(session, "e", marker="a"), FileList)
    assert_type(hosting.iter_files(session, "e", delimiter="/"), AsyncIterator[StoredFile])
    link = await hosting.static_upload_file(session, "e", "a")
    assert_type(link, hosting.StaticUploadLink)
    assert_type(link.signed_url, Secret)
    assert_type(link.token, Secret)


async def flows(session: Session, chunks: AsyncIterator[bytes]) -> None:
    """Wait for a website and upload to it."""
    assert_type(await hosting.wait_until_online(session, "e", timeout=60, interval=1), hosting.StaticStore)
    done = await hosting.upload_file(session, "e", "index.html", Path("x"))
    assert_type(done, hosting.UploadedStaticFile)
    assert_type(done.size, int)
    await hosting.upload_file(session, "e", "index.html", chunks, size=3, progress=print)


async def refused(session: Session) -> None:
    """Misuse the calls."""
    await hosting.create_static_store(session)  # type: ignore[call-arg]
    await hosting.describe_static_store(session, 5)  # type: ignore[arg-type]
    await hosting.static_file_list(session, "e", "prefix")  # type: ignore[call-arg]
    await hosting.static_upload_file(session, "e")  # type: ignore[call-arg]
    await hosting.upload_file(session, "e", "a", ["x"])  # type: ignore[arg-type]
    await hosting.wait_until_online(session, "e", 60)  # type: ignore[call-arg]
