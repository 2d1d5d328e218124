"""What goes over the wire to object storage, byte for byte, and what comes of odd answers and links."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote_plus

import pytest

import wxtcb
from wxtcb import BadReply, InvalidArgument, TransferError
from wxtcb._concurrency.limiter import RequestLimiter
from wxtcb._http.transport import SendFailure
from wxtcb._object_storage.client import StorageClient
from wxtcb.api import hosting, storage

from .conftest import QUICK

FINE = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
SECRETS = ["TOKEN-OF-COS-1234", "AUTHORIZATION-OF-COS-1234", "META-OF-COS-1234"]
SIGN = "sign=q-sign-algorithm%3Dsha1%26q-ak%3DAKID%26q-sign-time%3D1%3B2%2f+%7E"

BOTH = pytest.mark.parametrize("upload", [storage.upload_file, hosting.upload_file], ids=["file", "page"])


def refusal(status, body):
    head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def xml(code="AccessDenied", message="No"):
    return f"<?xml version='1.0' encoding='utf-8' ?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


@pytest.fixture
async def session(new_session):
    """Open a session before a platform that answers from scripts."""
    async with new_session(retry=QUICK, timeout=wxtcb.Timeout(connect=60, reply=60)) as session:
        yield session


@pytest.fixture
def link(wechat):
    """Give a function that lets the platform answer with links to a URL."""

    def lead(url, *, signed=f"/a%2Fb/%E4%B8%AD.html?{SIGN}"):
        token, authorization, meta = SECRETS
        wechat.usual["/componenttcb/uploadfile"] = {
            "url": f"{url}/bucket",
            "token": token,
            "authorization": authorization,
            "file_id": "cloud://f",
            "cos_file_id": meta,
        }
        wechat.usual["/componenttcb/staticuploadfile"] = {"signed_url": f"{url}{signed}", "token": token}
        wechat.usual["/componenttcb/getbucket"] = {"contents": [], "is_truncated": False}

    return lead


async def test_the_form_has_the_fields_in_their_order(session, link, serve):
    """Each field is what the link gave; the file stands last, and the length is announced."""
    server = await serve(FINE)
    link(server.url)
    done = await storage.upload_file(session, "e", "中/a.txt", b"hello")
    assert done == storage.Uploaded(file_id="cloud://f", path="中/a.txt", size=5)
    [(head, body)] = server.requests
    assert head.startswith("POST /bucket HTTP/1.1\r\n")
    assert f"\r\nContent-Length: {len(body)}\r\n" in head
    assert "Transfer-Encoding" not in head
    boundary = re.search("boundary=(.*)\r\n", head)[1].encode()
    *parts, end = body.split(b"--" + boundary)[1:]
    assert end == b"--\r\n"
    named = [re.search(b'name="([^"]*)".*?\r\n\r\n(.*)\r\n$', part, re.DOTALL).groups() for part in parts]
    assert [(name.decode(), value.decode()) for name, value in named] == [
        ("key", "中/a.txt"),
        ("Signature", SECRETS[1]),
        ("x-cos-security-token", SECRETS[0]),
        ("x-cos-meta-fileid", SECRETS[2]),
        ("file", "hello"),
    ]
    assert b"Content-Type: text/plain\r\n" in parts[-1]


async def test_the_put_goes_to_the_link_as_it_is(session, link, serve):
    """Path and query are those of the link, byte for byte; the body is the file and nothing else."""
    server = await serve(FINE)
    link(server.url)
    await hosting.upload_file(session, "e", "x.html", b"<p>")
    [(head, body)] = server.requests
    assert head.startswith(f"PUT /a%2Fb/%E4%B8%AD.html?{SIGN} HTTP/1.1\r\n")
    assert (body, "Content-Length: 3" in head, "Content-Type: text/html" in head) == (b"<p>", True, True)
    assert f"x-cos-security-token: {SECRETS[0]}\r\n" in head


async def test_no_token_of_the_platform_goes_there(session, link, serve, wechat):
    """Object storage gets to see what the link gave, and nothing else that is secret."""
    server = await serve(FINE)
    link(server.url)
    await storage.upload_file(session, "e", "a", b"hello")
    await hosting.upload_file(session, "e", "a", b"hello")
    assert wechat.fetches == 1
    assert "T0KEN" not in repr(server.requests)
    assert "access_token" not in repr(server.requests)


@BOTH
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data:text/html\r\nX-Mine: 1,x", "application/octet-stream"),
        ("a.html.gz", "application/octet-stream"),
        ("中.html", "text/html"),
    ],
    ids=["like a URL", "packed", "plain"],
)
async def test_the_type_is_that_of_the_name(session, link, serve, upload, *, name, kind):
    """A name is never read as a URL, which could bring a type, and headers, of its own."""
    server = await serve(FINE)
    link(server.url)
    await upload(session, "e", name, b"hello")
    [(head, body)] = server.requests
    assert f"Content-Type: {kind}\r\n" in (head if upload is hosting.upload_file else body.decode())
    assert "X-Mine" not in head


@pytest.mark.parametrize("token", ["a\r\nX-Mine: 1", "a\0b"])
async def test_a_token_that_fits_in_no_header_is_refused(session, link, serve, wechat, token):
    """Nothing is sent, and no other link is asked for."""
    server = await serve(FINE)
    link(server.url)
    wechat.usual["/componenttcb/staticuploadfile"]["token"] = token
    with pytest.raises(BadReply, match="no header can have"):
        await hosting.upload_file(session, "e", "x", b"hello")
    assert (server.requests, len(wechat.sent_to("/componenttcb/staticuploadfile"))) == ([], 1)


@BOTH
async def test_an_answer_before_all_was_sent_is_no_success(session, link, upload):
    """Whoever says 200 without having read the file has not stored it."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(FINE)
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        link(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(TransferError, match="HTTP 204 before") as caught:
            await upload(session, "e", "x", bytes(16 << 20))
        ended.set()
    assert (caught.value.stored, caught.value.status) == (False, 204)


@BOTH
async def test_a_refusal_before_all_was_sent_is_heard(session, link, upload):
    """Object storage need not read a file that it does not want."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal(403, xml().encode()))
        await ended.wait()
        writer.close()

    ended = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        link(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(TransferError, match="AccessDenied") as caught:
            await upload(session, "e", "x", bytes(16 << 20))
        ended.set()
    assert caught.value.stored is False


async def test_what_is_no_ascii_is_quoted(session, link, serve):
    """It could not be sent as it is."""
    server = await serve(FINE)
    link(server.url, signed="/中 x?a=%3D")
    await hosting.upload_file(session, "e", "x", b"")
    assert server.requests[0][0].startswith("PUT /%E4%B8%AD%20x?a=%3D HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "url",
    [
        "http://cos.example.com",
        "ftp://127.0.0.1",
        "https://user@cos.example.com",
        "https://",
        "//x",
        "http://[",
        "http://h:0",
    ],
)
async def test_a_link_that_shows_the_file_to_all_is_refused(session, link, url):
    """Neither file nor signature go over plain http, except on this machine."""
    link(url)
    for upload in (storage.upload_file, hosting.upload_file):
        with pytest.raises(BadReply, match="neither https nor"):
            await upload(session, "e", "x", b"hello")
    with pytest.raises(InvalidArgument, match="url must be https"):
        await storage.download_url(session, url, "x")


async def test_plain_http_can_be_allowed(new_session, link):
    """With `allow_http` a link may lead to another machine in the clear; here there is none."""
    link("http://nowhere.invalid")
    async with new_session(allow_http=True, retry=QUICK) as session:
        with pytest.raises(TransferError, match="could not be resolved"):
            await storage.upload_file(session, "e", "x", b"hello")


async def test_what_never_connected_is_tried_again_with_fresh_links(session, link, wechat, free_port):
    """Nothing had left, so that it is harmless; after four links it is an error."""
    link(f"http://127.0.0.1:{free_port}")
    with pytest.raises(TransferError, match="no connection") as caught:
        await storage.upload_file(session, "e", "x", b"hello")
    assert (caught.value.stored, caught.value.bytes_sent) == (False, 0)
    assert len(wechat.sent_to("/componenttcb/uploadfile")) == 4


async def test_a_pause_lies_between_the_links(session, link, wechat, monkeypatch):
    """Its length is what the retry policy says, and the last try is followed by none."""

    async def refuse(*_):
        return SendFailure("no connection", sent=False)

    async def rest(_, seconds):
        rests.append(seconds)

    rests = []
    link("https://cos.invalid")
    monkeypatch.setattr(StorageClient, "send", refuse)
    monkeypatch.setattr(RequestLimiter, "sleep", rest)
    with pytest.raises(TransferError, match="no connection"):
        await storage.upload_file(session, "e", "x", b"hello")
    assert len(rests) == 3
    assert all(0 <= pause <= QUICK.cap for pause in rests)


async def test_a_later_link_may_connect(session, link, wechat, free_port, serve):
    """The upload goes on as if nothing had been."""
    server = await serve(FINE)
    link(f"http://127.0.0.1:{free_port}")
    wechat.play("/componenttcb/uploadfile", wechat.usual["/componenttcb/uploadfile"])
    link(server.url)
    await storage.upload_file(session, "e", "x", b"hello")
    assert len(server.requests) == 1


@BOTH
async def test_nothing_is_sent_twice_by_itself(session, link, wechat, serve, upload):
    """Not even where aiohttp would: a PUT on a connection that was closed."""
    server = await serve(b"")
    link(server.url)
    with pytest.raises(TransferError):
        await upload(session, "e", "x", b"hello")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (xml("A", "b &amp; c").encode(), "A", "b & c"),
        (xml("A", "m" * 5000).encode(), "A", "m" * 300),
        (b"<Error><Code>A</Code><Message>cut", "A", "cut"),
        (b"<Error><x><Code>A</Code></x></Error>", None, None),
        (b'<!DOCTYPE e [<!ENTITY a "b">]><Error><Code>&a;</Code></Error>', None, None),
        (b'<!DOCTYPE e SYSTEM "file:///etc/passwd"><Error><Code>A</Code></Error>', None, None),
        (b"<html><body>Forbidden</body></html>", None, None),
        (b"\xff\xfe\x00", None, None),
        (b"", None, None),
        (b"<Error>" + b" " * 70_000 + b"<Code>A</Code></Error>", None, None),
    ],
)
async def test_a_refusal_is_read_with_care(session, link, serve, *, body, code, message):
    """Only Code, Message and RequestId right below Error count, a bounded piece of them, and nothing is expanded."""
    server = await serve(refusal(403, body))
    link(server.url)
    with pytest.raises(TransferError) as caught:
        await storage.upload_file(session, "e", "x", b"hello")
    error = caught.value
    assert (error.status, error.code) == (403, code)
    assert f"({message})" in str(error) if message else "(" not in str(error)


@BOTH
@pytest.mark.parametrize("field", ["code", "message"])
async def test_what_repeats_the_secrets_is_masked(session, link, serve, upload, *, field, whole_story):
    """An answer that holds token, signature or link, encoded or in clear, shows none of them; a path is none."""
    signature = unquote_plus(SIGN.removeprefix("sign="))
    held = SECRETS if upload is storage.upload_file else [SECRETS[0], SIGN, signature]
    server = await serve()
    link(server.url)
    said = xml(**{field: f"a path {' '.join(held)}".replace("&", "&amp;")})
    server.answer = lambda _: [refusal(403, said.encode())]
    with pytest.raises(TransferError, match=r"a path \*\*\*") as caught:
        await upload(session, "e", "a", b"hello")
    shown = whole_story(caught.value)
    assert not [secret for secret in held if secret in shown]


@BOTH
@pytest.mark.parametrize("room", [8, 9, 12])
@pytest.mark.parametrize("cut", ["by us", "by them"])
async def test_what_is_cut_off_in_the_middle_of_a_secret_is_masked(session, link, serve, upload, *, room, cut):
    """A message ends where we read no further, or where it does; what it holds of token or signature is not shown."""
    token = SECRETS[0]
    server = await serve()
    link(server.url)
    said = "m" * (300 - room) + token if cut == "by us" else f"m {token[:room]}"
    server.answer = lambda _: [refusal(403, xml(message=said).encode())]
    with pytest.raises(TransferError, match=r"m \*\*\*\)|m\*\*\*\)") as caught:
        await upload(session, "e", "a", b"hello")
    assert token[:8] not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", refusal(403, xml().encode()), refusal(502, b""), refusal(403, b"x")[:-1]]
)
async def test_no_error_shows_the_link(session, link, serve, *, answer, whole_story, caplog):
    """No frame, chain, log or attribute of an error holds what the link gave."""
    server = await serve(answer)
    link(server.url)
    for upload in (storage.upload_file, hosting.upload_file):
        with pytest.raises(TransferError) as caught:
            await upload(session, "e", "x", b"hello")
        shown = whole_story(caught.value) + caplog.text
        assert caught.value.__context__ is None
        assert not [secret for secret in [*SECRETS, "q-sign-algorithm"] if secret in shown]
