"""Tests of file storage, static hosting and object storage over HTTP."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

import aiohttp
import pytest
from yarl import URL

from wxtcb.sandbox import Fault, FaultKind, ReadyPolicy, Sandbox, World

UPLOAD = "/componenttcb/uploadfile"
DOWNLOAD = "/componenttcb/batchdownloadfile"
DELETE = "/componenttcb/batchdeletefile"
BUCKET = "/componenttcb/getbucket"
CREATE = "/componenttcb/createstaticstore"
DESCRIBE = "/componenttcb/describestaticstore"
PAGES = "/componenttcb/staticfilelist"
PAGE = "/componenttcb/staticuploadfile"
POST, PUT, GET = "/_cos/post", "/_cos/put", "/_cos/get"
FIELDS = ("key", "Signature", "x-cos-security-token", "x-cos-meta-fileid")


@pytest.fixture
def env(harness):
    """Return a NORMAL environment."""
    return harness.sandbox.world.add("a")


@pytest.fixture
async def site(harness, env):
    """Return an environment whose website is online."""
    await harness.call(CREATE, {"env": env})
    await harness.call(DESCRIBE, {"env": env})
    return env


def form_of(key, link, /, **instead):
    """Return the fields of an upload, some of them omitted (None) or replaced."""
    values = dict(zip(FIELDS, (key, link["authorization"], link["token"], link["cos_file_id"]), strict=True))
    return {name: value for name, value in (values | instead).items() if value is not None}


async def post(harness, link, fields, *, data=b"hello", after=(), name="file"):
    """Post a form and return the status and the error code."""
    form = aiohttp.FormData()
    for field, value in fields.items():
        form.add_field(field, value)
    form.add_field(name, data, filename="f", content_type="text/plain")
    for field in after:
        form.add_field(field, "x")
    return await said(harness.http.post(URL(link["url"], encoded=True), data=form))


async def put(harness, link, data=b"hello", token=None, query=""):
    """Put a file and return the status and the error code."""
    headers = {"x-cos-security-token": token or link["token"]}
    url = URL(link["signed_url"] + query, encoded=True)
    return await said(harness.http.put(url, data=data, headers=headers))


async def said(sending):
    async with sending as reply:
        return reply.status, (await reply.read()).decode()


async def store(harness, env, path="a", data=b"hello"):
    """Upload a file and return its link."""
    link = await harness.call(UPLOAD, {"env": env, "path": path})
    assert (await post(harness, link, form_of(path, link), data=data))[0] == 204
    return link


async def link_to(harness, env, file_id, max_age=100):
    [row] = (await harness.call(DOWNLOAD, {"env": env, "file_list": [{"fileid": file_id, "max_age": max_age}]}))[
        "file_list"
    ]
    return row


async def get(harness, url, **headers):
    async with harness.http.get(URL(url, encoded=True), headers=headers) as reply:
        return reply.status, await reply.read(), reply.headers


async def test_what_was_uploaded_is_downloaded(harness, env):
    """An uploaded file is downloaded unchanged by its id."""
    link = await store(harness, env, "中/a b.txt")
    assert link["file_id"].startswith(f"cloud://{env}.")
    assert harness.sandbox.world.storage.read(env, "中/a b.txt") == b"hello"
    row = await link_to(harness, env, link["file_id"])
    assert (row["status"], row["errmsg"]) == (0, "ok")
    status, data, headers = await get(harness, row["download_url"])
    assert (status, data, headers["ETag"]) == (200, b"hello", '"5d41402abc4b2a76b9719d911017c592"')
    assert headers["Content-Type"] == "text/plain"


async def test_what_the_platform_wrote_is_downloaded(harness, env):
    """Files that the platform writes have a URL and an id."""
    url = harness.sandbox.world.storage.write(env, "out.json", b"{}")
    assert (await get(harness, url))[:2] == (200, b"{}")
    assert (await link_to(harness, env, f"cloud://{env}.7465-{env}-1304480914/out.json"))["status"] == 0


async def test_a_file_without_its_id_is_not_found_later(harness, env):
    """A file that was uploaded without x-cos-meta-fileid cannot be downloaded by its id."""
    link = await harness.call(UPLOAD, {"env": env, "path": "a"})
    fields = form_of("a", link, **{"x-cos-meta-fileid": None})
    assert (await post(harness, link, fields))[0] == 204
    row = await link_to(harness, env, link["file_id"])
    assert (row["status"], row["errmsg"], row["download_url"]) == (-503003, "STORAGE_FILE_NONEXIST", "")
    assert harness.sandbox.world.storage.read(env, "a") == b"hello"


@pytest.mark.parametrize(
    ("instead", "code"),
    [
        ({"key": "b"}, "SignatureDoesNotMatch"),
        ({"Signature": "x"}, "SignatureDoesNotMatch"),
        ({"x-cos-security-token": "x"}, "AccessDenied"),
        ({"x-cos-security-token": None}, "MalformedPOSTRequest"),
        ({"Signature": None}, "MalformedPOSTRequest"),
        ({"more": "x"}, "MalformedPOSTRequest"),
    ],
)
async def test_a_form_is_checked(harness, env, instead, code):
    """A form with a wrong field is rejected, and nothing is stored."""
    link = await harness.call(UPLOAD, {"env": env, "path": "a"})
    status, words = await post(harness, link, form_of("a", link, **instead))
    assert status in (400, 403)
    assert re.search(f"<Error>\\s*<Code>{code}</Code>\\s*<Message>.+</Message>\\s*<RequestId>.+</RequestId>", words)
    assert harness.sandbox.world.storage.read(env, "a") is None


async def test_the_fields_have_an_order(harness, env):
    """The file must be the last field, and the others must be in the documented order."""
    link = await harness.call(UPLOAD, {"env": env, "path": "a"})
    fields = form_of("a", link)
    turned = dict(reversed(fields.items()))
    for answer in (
        await post(harness, link, turned),
        await post(harness, link, fields, after=["more"]),
        await post(harness, link, fields, name="other"),
        await said(harness.http.post(URL(link["url"]), data=b"hello")),
        await said(harness.http.post(URL(link["url"]), data=b"hello", headers={"Content-Type": "multipart/form-data"})),
    ):
        assert answer[0] == 400
        assert "MalformedPOSTRequest" in answer[1]
    assert harness.sandbox.world.storage.read(env, "a") is None


async def test_a_link_leads_to_one_place(harness, env):
    """The signature of one object is invalid for another."""
    first, second = [await harness.call(UPLOAD, {"env": env, "path": path}) for path in "ab"]
    status, words = await post(harness, first, form_of("b", second))
    assert (status, "SignatureDoesNotMatch" in words) == (403, True)


async def test_links_expire(harness, site):
    """Links expire by the world's clock: a form after 15 minutes, a PUT after one, a download after its age."""
    form = await harness.call(UPLOAD, {"env": site, "path": "a"})
    page = await harness.call(PAGE, {"env": site, "filename": "a"})
    file = await link_to(harness, site, (await store(harness, site, "b"))["file_id"], 100)
    harness.clock.advance(60)
    assert (await put(harness, page))[0] == 200
    harness.clock.advance(1)
    assert "Request has expired" in (await put(harness, page))[1]
    harness.clock.advance(40)
    status, words, _ = await get(harness, file["download_url"])
    assert (status, b"<Code>AccessDenied</Code>" in words) == (403, True)
    harness.clock.advance(798)
    assert (await post(harness, form, form_of("a", form)))[0] == 204
    harness.clock.advance(2)
    assert (await post(harness, form, form_of("a", form)))[0] == 403


async def test_the_oldest_of_too_many_links_is_forgotten(harness, env, monkeypatch):
    """Only the newest links are remembered, so a long-running sandbox does not grow."""
    monkeypatch.setattr("wxtcb.sandbox.cos.store._MAX_LINKS", 2)
    old, *_, new = [await harness.call(UPLOAD, {"env": env, "path": "a"}) for _ in range(3)]
    assert (await post(harness, old, form_of("a", old)))[0] == 403
    assert (await post(harness, new, form_of("a", new)))[0] == 204


async def test_a_page_is_put_byte_for_byte(harness, site):
    """A signed URL is valid only unchanged."""
    link = await harness.call(PAGE, {"env": site, "filename": "中/a b.html"})
    assert "?sign=q-sign-algorithm%3Dsha1%26" in link["signed_url"]
    assert (await put(harness, link))[0] == 200
    assert harness.sandbox.world.hosting.read(site, "中/a b.html") == b"hello"
    decoded = {
        **link,
        "signed_url": link["signed_url"].partition("?")[0] + "?" + unquote(link["signed_url"].partition("?")[2]),
    }
    for answer in (await put(harness, decoded), await put(harness, link, query="&x=1")):
        assert (answer[0], "SignatureDoesNotMatch" in answer[1]) == (403, True)
    assert "AccessDenied" in (await put(harness, link, token="x"))[1]


async def test_a_put_announces_its_length(harness, site):
    """A PUT without Content-Length is rejected."""

    async def chunks():
        yield b"hello"

    link = await harness.call(PAGE, {"env": site, "filename": "a"})
    assert "MissingContentLength" in (await put(harness, link, chunks()))[1]


async def test_a_link_gives_one_right(harness, env):
    """A link for reading cannot be used for writing."""
    url = harness.sandbox.world.storage.write(env, "a", b"x")
    assert (await said(harness.http.put(URL(url, encoded=True), data=b"y")))[0] == 403
    assert harness.sandbox.world.storage.read(env, "a") == b"x"


async def test_an_object_has_a_largest_size(harness, env):
    """An object that is too large is rejected, and nothing is stored."""
    harness.sandbox.world.storage.objects.max_object_bytes = 4
    link = await harness.call(UPLOAD, {"env": env, "path": "a"})
    assert "EntityTooLarge" in (await post(harness, link, form_of("a", link)))[1]
    assert harness.sandbox.world.storage.read(env, "a") is None


async def test_a_range_is_served(harness, env):
    """A range is served unless If-Range names another object. A range after the end is rejected."""
    url = harness.sandbox.world.storage.write(env, "a", b"hello")
    etag = (await get(harness, url))[2]["ETag"]
    status, data, headers = await get(harness, url, Range="bytes=2-", **{"If-Range": etag})
    assert (status, data, headers["Content-Range"]) == (206, b"llo", "bytes 2-4/5")
    assert (await get(harness, url, Range="bytes=2-"))[1] == b"llo"
    assert (await get(harness, url, Range="bytes=2-", **{"If-Range": '"other"'}))[:2] == (200, b"hello")
    assert (await get(harness, url, Range="lines=2-"))[0] == 200
    status, words, _ = await get(harness, url, Range="bytes=5-")
    assert (status, b"InvalidRange" in words) == (416, True)


async def test_files_are_deleted_one_by_one(harness, env):
    """An unknown file has a status of its own. A deleted file cannot be read."""
    link = await store(harness, env)
    url = (await link_to(harness, env, link["file_id"]))["download_url"]
    rows = (await harness.call(DELETE, {"env": env, "fileid_list": [link["file_id"], "cloud://x"]}))["delete_list"]
    assert [(row["fileid"], row["status"]) for row in rows] == [(link["file_id"], 0), ("cloud://x", -503003)]
    status, words, _ = await get(harness, url)
    assert (status, b"NoSuchKey" in words) == (404, True)


async def test_batches_have_a_limit(harness, env):
    """A batch has at most fifty files. Ages must be above 0."""
    ids = [f"f{number}" for number in range(51)]
    files = [{"fileid": each, "max_age": 1} for each in ids]
    assert (await harness.call(DELETE, {"env": env, "fileid_list": ids}))["errcode"] == 40097
    assert (await harness.call(DELETE, {"env": env, "fileid_list": ids[:50]}))["errcode"] == 0
    assert (await harness.call(DOWNLOAD, {"env": env, "file_list": files}))["errcode"] == 40097
    assert (await harness.call(DOWNLOAD, {"env": env, "file_list": files[:50]}))["errcode"] == 0
    assert (await harness.call(DOWNLOAD, {"env": env, "file_list": [{"fileid": "f", "max_age": 0}]}))[
        "errcode"
    ] == 40097


async def test_files_are_listed_by_the_bytes_of_their_paths(harness, env):
    """Files are sorted by the bytes of their paths. Sizes are strings. The delimiter folds prefixes."""
    for path in ("b", "a/x", "a/y", "中", "Z"):
        harness.sandbox.world.storage.write(env, path, b"hello")

    async def keys(**filters):
        return [row["key"] for row in (await harness.call(BUCKET, {"env": env, **filters}))["contents"]]

    assert await keys() == ["Z", "a/x", "a/y", "b", "中"]
    assert await keys(prefix="a/") == ["a/x", "a/y"]
    assert await keys(delimiter="/") == ["Z", "b", "中"]
    assert await keys(prefix="a/", delimiter="/", marker="a/x") == ["a/y"]
    assert (await harness.call(BUCKET, {"env": env, "delimiter": "//"}))["errcode"] == 40097
    row = (await harness.call(BUCKET, {"env": env, "prefix": "Z"}))["contents"][0]
    assert row == {
        "key": "Z",
        "last_modified": "2020-09-13T12:26:40.000Z",
        "md5": "5d41402abc4b2a76b9719d911017c592",
        "size": "5",
    }


async def test_a_list_has_pages_of_a_thousand(harness, env):
    """The next page starts after the last key."""
    for number in range(1001):
        harness.sandbox.world.storage.write(env, f"{number:04d}", b"")
    first = await harness.call(BUCKET, {"env": env})
    assert (len(first["contents"]), first["is_truncated"]) == (1000, True)
    second = await harness.call(BUCKET, {"env": env, "marker": first["contents"][-1]["key"]})
    assert ([row["key"] for row in second["contents"]], second["is_truncated"]) == (["1000"], False)


async def test_only_a_usable_environment_has_files(harness):
    """Links and lists need a NORMAL environment."""
    env = harness.sandbox.world.add("a", status="UNAVAILABLE")
    for path, body in (
        (UPLOAD, {"path": "a"}),
        (DOWNLOAD, {"file_list": [{"fileid": "f", "max_age": 1}]}),
        (DELETE, {"fileid_list": ["f"]}),
        (BUCKET, {}),
        (CREATE, {}),
        (DESCRIBE, {}),
        (PAGES, {}),
        (PAGE, {"filename": "a"}),
    ):
        assert (await harness.call(path, {"env": env, **body}))["errcode"] == -501005


async def test_a_website_takes_its_time(harness, env):
    """A website is init, process, then online. Before that it has no files and accepts none."""
    world = harness.sandbox.world
    world.operations_ready_after = ReadyPolicy.after_polls(2)
    assert await harness.call(DESCRIBE, {"env": env}) == {"errcode": 0, "errmsg": "ok", "Data": []}
    assert (await harness.call(CREATE, {"env": env}))["errcode"] == 0
    seen = []
    for _ in range(3):
        assert (await harness.call(PAGES, {"env": env}))["errcode"] == 40097
        [row] = (await harness.call(DESCRIBE, {"env": env}))["Data"]
        seen.append(row["status"])
    assert seen == ["init", "process", "online"]
    assert (row["env"], row["regoin"]) == (env, "ap-shanghai")
    assert await harness.call(PAGES, {"env": env}) == {
        "errcode": 0,
        "errmsg": "ok",
        "contents": [],
        "is_truncated": False,
    }


async def test_a_second_website_is_refused(harness, site):
    """An environment has at most one website."""
    assert (await harness.call(CREATE, {"env": site}))["errcode"] == 40097
    other = harness.sandbox.world.add("b")
    assert (await harness.call(PAGE, {"env": other, "filename": "a"}))["errcode"] == 40097
    assert harness.sandbox.world.hosting.read(other, "a") is None


async def test_files_and_pages_are_apart(harness, site):
    """A file and a page may have the same path."""
    await store(harness, site, "a", b"file")
    await put(harness, await harness.call(PAGE, {"env": site, "filename": "a"}), b"page")
    world = harness.sandbox.world
    assert (world.storage.read(site, "a"), world.hosting.read(site, "a")) == (b"file", b"page")
    assert [row["size"] for row in (await harness.call(PAGES, {"env": site}))["contents"]] == ["4"]


async def test_a_file_is_written_over(harness, env):
    """A file is replaced, and the bytes of the old one are removed."""
    await store(harness, env, "a", b"older")
    await store(harness, env, "a", b"newer")
    assert harness.sandbox.world.storage.read(env, "a") == b"newer"
    folder = harness.sandbox.world.storage.objects.get(f"7465-{env}-1304480914", "a").blob.file.parent
    assert len(list(folder.iterdir())) == 1


async def test_nothing_is_left_on_the_disk():
    """Closing the sandbox removes all stored bytes. Its world can be used again."""
    world = World()
    env = world.add("a")
    async with Sandbox(world=world):
        world.storage.write(env, "a", b"x")
        folder = world.storage.objects.get(f"7465-{env}-1304480914", "a").blob.file.parent
        assert folder.exists()
    assert not folder.exists()
    assert world.storage.read(env, "a") is None
    world.storage.write(env, "a", b"y")
    assert world.storage.read(env, "a") == b"y"
    world.storage.objects.clear()


@pytest.mark.parametrize(
    ("trouble", "acted"),
    [(FaultKind.DROP, False), (FaultKind.DROP_AFTER, True), (FaultKind.TRUNCATE, True)],
)
async def test_a_connection_is_dropped(harness, site, trouble, acted):
    """A connection is dropped before or after acting, for forms and PUT alike."""
    link = await harness.call(PAGE, {"env": site, "filename": "a"})
    form = await harness.call(UPLOAD, {"env": site, "path": "a"})
    url = harness.sandbox.world.storage.write(site, "b", b"hello")
    for path in (POST, PUT, GET):
        harness.sandbox.faults.add(Fault(trouble, path=path))
    ends = 0
    for call in (
        lambda: post(harness, form, form_of("a", form)),
        lambda: put(harness, link),
        lambda: get(harness, url),
    ):
        try:
            await call()
        except aiohttp.ClientError:
            ends += 1
    assert ends == (1 if trouble is FaultKind.TRUNCATE else 3)  # only a download has what could be cut
    assert (harness.sandbox.world.storage.read(site, "a") is not None) is acted
    assert (harness.sandbox.world.hosting.read(site, "a") is not None) is acted
    assert {(seen.outcome, seen.acted) for seen in harness.sandbox.seen if seen.path in (POST, PUT)} == {
        (trouble.value, acted)
    }


@pytest.mark.parametrize(
    ("trouble", "status", "acted"),
    [
        (FaultKind.HTTP, 502, False),
        (FaultKind.HTTP_AFTER, 502, True),
        (FaultKind.REDIRECT, 307, False),
        (FaultKind.ECHO_PAGE, 502, True),
        (FaultKind.SLOW, 200, True),
        (FaultKind.GZIP, 200, True),
    ],
)
async def test_something_between_answers(harness, site, trouble, status, acted):
    """A fault replies with any status, before or after acting."""
    link = await harness.call(PAGE, {"env": site, "filename": "a"})
    harness.sandbox.faults.add(Fault(trouble, path=PUT, times=1))
    headers = {"x-cos-security-token": link["token"]}
    url = URL(link["signed_url"], encoded=True)
    async with harness.http.put(url, data=b"hello", headers=headers, allow_redirects=False) as reply:
        words = await reply.text()
    assert reply.status == status
    assert (harness.sandbox.world.hosting.read(site, "a") is not None) is acted
    assert ("sign=" in words) is (trouble is FaultKind.ECHO_PAGE)


@pytest.mark.parametrize(("trouble", "acted"), [(FaultKind.HANG, False), (FaultKind.HANG_AFTER, True)])
async def test_nothing_answers(harness, env, settle, trouble, acted):
    """A fault that hangs ends when the client gives up."""

    async def send():
        async with harness.http.post(link["url"], data=form):
            pass

    link = await harness.call(UPLOAD, {"env": env, "path": "a"})
    harness.sandbox.faults.add(Fault(trouble, path=POST))
    form = aiohttp.FormData({**form_of("a", link)})
    form.add_field("file", b"hello", filename="f")
    sending = asyncio.create_task(send())
    while not harness.sandbox.count(POST):
        await asyncio.sleep(0.001)
    await settle()
    assert not sending.done()
    sending.cancel()
    await asyncio.wait([sending])
    assert (harness.sandbox.world.storage.read(env, "a") is not None) is acted


async def test_an_upload_that_breaks_off_is_forgotten(harness, site):
    """An upload that breaks off leaves no object and no bytes."""

    async def chunks():
        yield b"hello"
        raise RuntimeError

    link = await harness.call(PAGE, {"env": site, "filename": "a"})
    headers = {"x-cos-security-token": link["token"], "Content-Length": "10"}
    with pytest.raises(aiohttp.ClientError):
        await harness.http.put(URL(link["signed_url"], encoded=True), data=chunks(), headers=headers)
    await harness.call(PAGES, {"env": site})
    assert harness.sandbox.world.hosting.read(site, "a") is None


async def test_a_fault_of_all_calls_spares_object_storage(harness, env):
    """A fault without path does not apply to object storage."""
    url = harness.sandbox.world.storage.write(env, "a", b"x")
    harness.sandbox.faults.drop()
    assert (await get(harness, url))[0] == 200
