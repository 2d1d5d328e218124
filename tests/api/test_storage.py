"""Calls of file storage."""

from __future__ import annotations

import attrs
import pytest

import wxtcb
from wxtcb import BadReply, InvalidArgument, InvalidRequest, PartialFailure, PlatformBusy, TransferError
from wxtcb.api import storage

REJECTED = {"errcode": 40097, "errmsg": "invalid args rid: 5f-77"}


def rows(*numbers, status=0):
    return [{"fileid": f"f{number}", "status": status, "errmsg": "ok" if not status else "GONE"} for number in numbers]


def links(*numbers):
    return [{**row, "download_url": f"https://h/{row['fileid']}?sign=S1GN"} for row in rows(*numbers)]


def wanted(count):
    return [storage.FileLinkRequest(file_id=f"f{number}") for number in range(count)]


def page(*keys, more=False):
    entries = [
        {"key": key, "last_modified": "2020-12-04T08:56:59.000Z", "md5": "6f58-1", "size": "554"} for key in keys
    ]
    return {"errcode": 0, "errmsg": "ok", "contents": entries, "is_truncated": more}


async def test_links_are_requested_in_batches_of_50(session, platform):
    """The results keep the order of the files."""
    platform.replies = [
        {"errcode": 0, "errmsg": "ok", "file_list": links(*part)} for part in (range(50), range(50, 60))
    ]
    reply = await storage.batch_download_file(session, "e", wanted(60))
    assert [link.file_id for link in reply.file_list] == [f"f{number}" for number in range(60)]
    assert [len(body["file_list"]) for body in platform.bodies] == [50, 10]
    assert platform.bodies[1]["file_list"][0] == {"fileid": "f50", "max_age": 7200}


async def test_raw_json_of_all_batches_is_merged(session, platform):
    """The lists are joined in their order."""
    platform.replies = [
        {"errcode": 0, "errmsg": "ok", "delete_list": rows(*part)} for part in (range(50), range(50, 60))
    ]
    reply = await storage.batch_delete_file(session, "e", [f"f{number}" for number in range(60)])
    assert wxtcb.raw(reply)["delete_list"] == rows(*range(60))


async def test_failed_files_are_raised_once(session, platform):
    """Each keeps its position and its error, in any batch."""
    replies = [rows(*range(49)) + rows(49, status=-503003), rows(50, status=-503003) + rows(51)]
    platform.replies = [{"errcode": 0, "errmsg": "ok", "delete_list": part} for part in replies]
    with pytest.raises(PartialFailure, match="GONE") as caught:
        await storage.batch_delete_file(session, "e", [f"f{number}" for number in range(52)])
    error = caught.value
    assert [file.file_id for file in error.failed] == ["f49", "f50"]
    assert (len(error.reply.delete_list), error.cause) == (52, None)
    assert platform.bodies[1] == {"env": "e", "fileid_list": ["f50", "f51"]}


async def test_results_have_the_requested_order(session, platform):
    """A missing file has no status, an unknown one is dropped, and a file requested twice has two results."""
    answers = [rows(2, 9, 0) + rows(0, status=-503003)]
    platform.replies = [{"errcode": 0, "errmsg": "ok", "delete_list": part} for part in answers]
    with pytest.raises(PartialFailure) as caught:
        await storage.batch_delete_file(session, "e", ["f0", "f1", "f2", "f0", "f2"])
    statuses = [(file.file_id, file.status) for file in caught.value.reply.delete_list]
    assert statuses == [("f0", 0), ("f1", None), ("f2", 0), ("f0", -503003), ("f2", 0)]


@pytest.mark.parametrize("answer", [[], links(7), rows(1)], ids=["nothing", "another", "no URL"])
async def test_download_without_a_link_fails(session, platform, answer, tmp_path):
    """No other file is downloaded in its place."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "file_list": answer}]
    with pytest.raises(TransferError, match=r"download of f1.*no link"):
        await storage.download_file(session, "e", "f1", tmp_path / "f")


async def test_failed_files_are_returned_by_a_view(session, platform):
    """With ``partial="return"`` nothing is raised for them."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "file_list": rows(0, status=-503003)}]
    view = session.with_options(partial="return")
    reply = await storage.batch_download_file(view, "e", wanted(1))
    assert [link.status for link in reply.failed] == [-503003]
    assert reply.failed[0].download_url is None


@pytest.mark.parametrize("partial", ["raise", "return"])
async def test_error_of_a_later_batch_keeps_earlier_results(session, platform, partial):
    """`PartialFailure` has the results so far and the files without a result, in any partial mode."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "delete_list": rows(*range(50))}, REJECTED]
    view = session.with_options(partial=partial)
    with pytest.raises(PartialFailure, match=r"a later call.*40097") as caught:
        await storage.batch_delete_file(view, "e", [f"f{number}" for number in range(120)])
    error = caught.value
    assert isinstance(error.cause, InvalidRequest)
    assert [file.file_id for file in error.failed] == [f"f{number}" for number in range(50, 120)]
    assert {file.status for file in error.failed} == {None}
    assert [file.status for file in error.reply.delete_list[:50]] == [0] * 50
    assert (len(platform.sent), error.maybe_acted) == (2, 0)
    assert error.__context__ is None


async def test_links_of_a_failed_batch_have_no_status(session, platform):
    """The same holds for links."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "file_list": links(*range(50))}, REJECTED]
    with pytest.raises(PartialFailure) as caught:
        await storage.batch_download_file(session, "e", wanted(51))
    assert [attrs.astuple(link) for link in caught.value.failed] == [("f50", None, None, None)]


async def test_partial_failure_counts_attempts_that_may_have_acted(make_session, platform):
    """A batch the platform was busy with may have taken effect."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", "delete_list": rows(*range(50))}, {"errcode": -1, "errmsg": "x"}]
    async with make_session(retry=wxtcb.RetryPolicy(attempts=2, base=0.001)) as session:
        with pytest.raises(PartialFailure) as caught:
            await storage.batch_delete_file(session, "e", [f"f{number}" for number in range(51)])
    assert isinstance(caught.value.cause, PlatformBusy)
    assert caught.value.maybe_acted == caught.value.cause.maybe_acted == 2


async def test_error_of_the_first_batch_is_raised_unchanged(session, platform):
    """No result exists that must be reported."""
    platform.replies = [REJECTED]
    with pytest.raises(InvalidRequest):
        await storage.batch_delete_file(session, "e", [f"f{number}" for number in range(51)])
    assert len(platform.sent) == 1


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda s: storage.batch_delete_file(s, "e", []), "file_ids"),
        (lambda s: storage.batch_delete_file(s, "e", "f1"), "file_ids"),
        (lambda s: storage.batch_delete_file(s, "e", [""]), r"file_ids\[0\]"),
        (lambda s: storage.batch_download_file(s, "e", []), "files"),
        (lambda s: storage.get_bucket(s, "e", delimiter="//"), "delimiter"),
        (lambda s: storage.get_bucket(s, "e", delimiter=""), "delimiter"),
        (lambda s: storage.download_url(s, "", "x"), "url"),
    ],
    ids=range(7),
)
async def test_invalid_argument_is_rejected(session, platform, call, name):
    """Nothing is sent for it."""
    with pytest.raises(InvalidArgument, match=rf"^{name}"):
        await call(session)
    assert platform.sent == platform.token_requests == []


@pytest.mark.parametrize("max_age", [0, -1])
def test_max_age_must_be_positive(max_age):
    """Zero and negative seconds are rejected."""
    with pytest.raises(InvalidArgument, match="max_age"):
        storage.FileLinkRequest(file_id="f", max_age=max_age)


async def test_upload_link_shows_no_secret(session, platform):
    """It is neither in the repr nor in the raw JSON."""
    reply = {"url": "https://U", "token": "T", "authorization": "A", "file_id": "cloud://f", "cos_file_id": "M"}
    platform.replies = [{"errcode": 0, "errmsg": "ok", **reply}]
    link = await storage.upload_file_link(session, "e", "a")
    assert repr(link) == "UploadLink(url=***, token=***, authorization=***, file_id='cloud://f', cos_file_id=***)"


async def test_download_link_is_in_no_repr(session, platform):
    """Everyone who has the link can read the file; this holds for the merged reply of several batches, too."""
    platform.replies = [
        {"errcode": 0, "errmsg": "ok", "file_list": links(*part)} for part in (range(50), range(50, 60))
    ]
    reply = await storage.batch_download_file(session, "e", wanted(60))
    assert "S1GN" not in repr(reply)
    assert reply.file_list[0].download_url == wxtcb.Secret("https://h/f0?sign=S1GN")
    with pytest.raises(InvalidArgument, match="secret"):
        wxtcb.raw(reply)


async def test_all_pages_are_iterated(session, platform):
    """The next page begins after the last key; a repeated key is skipped."""
    platform.replies = [page("a", "b", more=True), page("b", "c", more=True), page("d")]
    found = [file async for file in storage.iter_files(session, "e", prefix="", delimiter="/")]
    assert [file.key for file in found] == ["a", "b", "c", "d"]
    assert found[0].size == 554
    assert [body.get("marker") for body in platform.bodies] == [None, "b", "c"]
    assert {(body["prefix"], body["delimiter"]) for body in platform.bodies} == {("", "/")}


async def test_page_without_new_files_is_a_bad_reply(session, platform):
    """More files are announced, but there is no key to continue from."""
    platform.replies = [page("a", more=True)]
    with pytest.raises(BadReply, match="no new one"):
        _ = [file async for file in storage.iter_files(session, "e")]


async def test_list_that_ignores_the_marker_is_a_bad_reply(session, platform):
    """Otherwise the iteration would never end."""
    platform.replies = [page("a", "b", "c", more=True)] * 2
    files = storage.iter_files(session, "e")
    assert [(await anext(files)).key for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(BadReply, match="before the key"):
        await anext(files)


async def test_invalid_delimiter_is_rejected_at_once(session):
    """The error is raised before the first file is fetched."""
    with pytest.raises(InvalidArgument, match="delimiter"):
        storage.iter_files(session, "e", delimiter="//")


@pytest.mark.parametrize("reply", [{}, {"contents": None, "is_truncated": None}])
async def test_bucket_may_be_empty(session, platform, reply):
    """Missing and null mean no files."""
    platform.replies = [{"errcode": 0, "errmsg": "ok", **reply}]
    assert await storage.get_bucket(session, "e") == storage.FileList()
