"""Requests to object storage byte for byte, and unusual responses and links."""

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

from .conftest import ON_LOOPBACK, QUICK

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
    """Open a session on a platform with scripted replies."""
    options = {"timeout": wxtcb.Timeout(connect=60, reply=60), "base_url": ON_LOOPBACK}
    async with new_session(retry=QUICK, **options) as session:
        yield session


@pytest.fixture
def link(wechat):
    """Return a function that makes the platform issue links to a URL."""

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


async def test_form_fields_are_in_order(session, link, serve):
    """The values are those of the link, the file is last, and the length is announced."""
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


async def test_put_uses_the_link_unchanged(session, link, serve):
    """Path and query are sent byte for byte, and the body is the file."""
    server = await serve(FINE)
    link(server.url)
    await hosting.upload_file(session, "e", "x.html", b"<p>")
    [(head, body)] = server.requests
    assert head.startswith(f"PUT /a%2Fb/%E4%B8%AD.html?{SIGN} HTTP/1.1\r\n")
    assert (body, "Content-Length: 3" in head, "Content-Type: text/html" in head) == (b"<p>", True, True)
    assert f"x-cos-security-token: {SECRETS[0]}\r\n" in head


async def test_token_of_the_platform_is_not_sent(session, link, serve, wechat):
    """Object storage gets only the secrets of the link."""
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
async def test_content_type_is_derived_from_the_name(session, link, serve, upload, *, name, kind):
    """A name that looks like a data URL cannot add headers."""
    server = await serve(FINE)
    link(server.url)
    await upload(session, "e", name, b"hello")
    [(head, body)] = server.requests
    assert f"Content-Type: {kind}\r\n" in (head if upload is hosting.upload_file else body.decode())
    assert "X-Mine" not in head


@pytest.mark.parametrize("token", ["a\r\nX-Mine: 1", "a\0b"])
async def test_token_that_is_no_valid_header_value_is_rejected(session, link, serve, wechat, token):
    """Nothing is sent, and no other link is requested."""
    server = await serve(FINE)
    link(server.url)
    wechat.usual["/componenttcb/staticuploadfile"]["token"] = token
    with pytest.raises(BadReply, match="no header can have"):
        await hosting.upload_file(session, "e", "x", b"hello")
    assert (server.requests, len(wechat.sent_to("/componenttcb/staticuploadfile"))) == ([], 1)


@BOTH
async def test_success_before_the_whole_file_was_sent_is_an_error(session, link, upload):
    """A server that has not read the file has not stored it."""

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
async def test_rejection_before_the_whole_file_was_sent_is_reported(session, link, upload):
    """Object storage may reject a file without reading it."""

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


async def test_non_ascii_characters_of_a_link_are_quoted(session, link, serve):
    """They cannot be sent in a request line."""
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
async def test_plain_http_or_invalid_link_is_rejected(new_session, link, url):
    """File and signature are sent over plain http only to loopback."""
    link(url)
    async with new_session(transfer_hosts=["cos.example.com"], base_url=ON_LOOPBACK) as session:
        for upload in (storage.upload_file, hosting.upload_file):
            with pytest.raises(BadReply, match=r"neither https nor|not a valid URL"):
                await upload(session, "e", "x", b"hello")
        with pytest.raises(InvalidArgument, match=r"url cannot be used.*(neither https nor|not a valid URL)"):
            await storage.download_url(session, url, "x")


async def test_plain_http_link_is_accepted_with_allow_http(new_session, link):
    """The connection is attempted."""
    link("http://nowhere.invalid")
    async with new_session(allow_http=True, transfer_hosts=["nowhere.invalid"], retry=QUICK) as session:
        with pytest.raises(TransferError, match="could not be resolved"):
            await storage.upload_file(session, "e", "x", b"hello")


async def test_upload_that_never_connected_is_retried_with_new_links(session, link, wechat, free_port):
    """After four links it fails."""
    link(f"http://127.0.0.1:{free_port}")
    with pytest.raises(TransferError, match="no connection") as caught:
        await storage.upload_file(session, "e", "x", b"hello")
    assert (caught.value.stored, caught.value.bytes_sent) == (False, 0)
    assert len(wechat.sent_to("/componenttcb/uploadfile")) == 4


async def test_backoff_between_links(session, link, wechat, monkeypatch):
    """The delays follow the retry policy, and none follows the last attempt."""

    async def refuse(*_):
        return SendFailure("no connection", sent=False)

    async def rest(_, seconds):
        rests.append(seconds)

    rests = []
    link("https://cos.ap-shanghai.myqcloud.com")
    monkeypatch.setattr(StorageClient, "send", refuse)
    monkeypatch.setattr(RequestLimiter, "sleep", rest)
    with pytest.raises(TransferError, match="no connection"):
        await storage.upload_file(session, "e", "x", b"hello")
    assert len(rests) == 3
    assert all(0 <= pause <= QUICK.cap for pause in rests)


async def test_upload_succeeds_with_a_later_link(session, link, wechat, free_port, serve):
    """The first link cannot be connected to."""
    server = await serve(FINE)
    link(f"http://127.0.0.1:{free_port}")
    wechat.play("/componenttcb/uploadfile", wechat.usual["/componenttcb/uploadfile"])
    link(server.url)
    await storage.upload_file(session, "e", "x", b"hello")
    assert len(server.requests) == 1


@BOTH
async def test_request_is_not_resent_automatically(session, link, wechat, serve, upload):
    """Without protection, aiohttp repeats a PUT on a closed connection."""
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
async def test_error_xml_is_parsed_defensively(session, link, serve, *, body, code, message):
    """Only direct children count, their length is limited, and entities are not expanded."""
    server = await serve(refusal(403, body))
    link(server.url)
    with pytest.raises(TransferError) as caught:
        await storage.upload_file(session, "e", "x", b"hello")
    error = caught.value
    assert (error.status, error.code) == (403, code)
    assert f"({message})" in str(error) if message else "(" not in str(error)


@BOTH
@pytest.mark.parametrize("field", ["code", "message"])
async def test_secrets_echoed_by_object_storage_are_redacted(session, link, serve, upload, *, field, exposed_text):
    """This holds for token, signature and link, encoded or not."""
    signature = unquote_plus(SIGN.removeprefix("sign="))
    held = SECRETS if upload is storage.upload_file else [SECRETS[0], SIGN, signature]
    server = await serve()
    link(server.url)
    said = xml(**{field: f"a path {' '.join(held)}".replace("&", "&amp;")})
    server.answer = lambda _: [refusal(403, said.encode())]
    with pytest.raises(TransferError, match=r"a path \*\*\*") as caught:
        await upload(session, "e", "a", b"hello")
    shown = exposed_text(caught.value)
    assert not [secret for secret in held if secret in shown]


@BOTH
@pytest.mark.parametrize("room", [8, 9, 12])
@pytest.mark.parametrize("cut", ["by us", "by them"])
async def test_truncated_secret_is_redacted(session, link, serve, upload, *, room, cut):
    """A message may end in the middle of a secret."""
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
async def test_no_error_shows_the_link(session, link, serve, *, answer, exposed_text, caplog):
    """No frame, chain, log or attribute of an error contains a secret of the link."""
    server = await serve(answer)
    link(server.url)
    for upload in (storage.upload_file, hosting.upload_file):
        with pytest.raises(TransferError) as caught:
            await upload(session, "e", "x", b"hello")
        shown = exposed_text(caught.value) + caplog.text
        assert caught.value.__context__ is None
        assert not [secret for secret in [*SECRETS, "q-sign-algorithm"] if secret in shown]
