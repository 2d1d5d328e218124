"""Links into a private network: rejected by host, and by address right before the connection."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

import wxtcb
from wxtcb import BadReply, InvalidArgument, Secret, TransferError
from wxtcb._object_storage.link_policy import LinkPolicy
from wxtcb.api import hosting, storage

from .conftest import ON_LOOPBACK, QUICK

PUBLIC = "https://api.weixin.qq.com"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
COS = "cos.ap-shanghai.myqcloud.com"


def policy(*hosts, base_url=PUBLIC, allow_http=False):
    return LinkPolicy.create(hosts or wxtcb.TRANSFER_HOSTS, base_url=base_url, allow_http=allow_http)


@pytest.mark.parametrize(
    "url",
    [
        "https://cos.ap-shanghai.myqcloud.com/7465-a-1",
        "https://tcb-mongodb-data-1254135806.cos.ap-shanghai.myqcloud.com/x?sign=a",
        "https://b8b3-static-a-1.cos.ap-shanghai.myqcloud.com:443/index.html",
        "https://7465-test2-4a89da-1258717764.tcb.qcloud.la/A.png",
        "HTTPS://COS.AP-SHANGHAI.MYQCLOUD.COM./x",
    ],
)
def test_hosts_of_the_documented_samples_are_allowed(url):
    """These are the default of `transfer_hosts`."""
    assert policy().find_problem(Secret(url)) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://metadata.google.internal",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://localhost/",
        "http://localhost:8080/admin/dump",
        "http://127.0.0.1:8080",
        "https://myqcloud.com.evil.example",
        "https://evilmyqcloud.com",
        "https://myqcloud.com",
        "https://evil.example/.myqcloud.com",
        "https://evil.example#.myqcloud.com",
        "https://evil.example\\.myqcloud.com",
        "https://evil.example%2f.myqcloud.com/",
        "https://user@cos.myqcloud.com",
        "https://cos.myqcloud.com@evil.example/",
        "https://cos.myqcloud.com:0/",
        "https://cos.myqcloud.com:99999/",
        "https://[::1].myqcloud.com/",
        "https://cos。myqcloud。com.evil.example/",
        "http://cos.myqcloud.com/x",
        "ftp://cos.myqcloud.com/x",
        "//cos.myqcloud.com/x",
        "https:///x",
        "https://",
        "",
    ],
)
def test_other_links_are_rejected(url):
    """Literal private addresses, names that only resemble an allowed one, and plain http."""
    assert policy().find_problem(Secret(url))


def test_problem_does_not_contain_the_signature():
    """It contains the host, because the reader has to decide about it."""
    problem = policy().find_problem(Secret("https://evil.example/secret-path?sign=S1GNATURE"))
    assert "'evil.example'" in problem
    assert "transfer_hosts" in problem
    assert "secret-path" not in problem
    assert "S1GN" not in problem


@pytest.mark.parametrize(
    ("hosts", "url"),
    [
        (["files.example.com"], "https://files.example.com/x"),
        (["*.Example.com"], "https://a.b.example.COM/x"),
        (["10.0.0.0/8"], "https://10.1.2.3/x"),
        (["10.1.2.3"], "https://10.1.2.3/x"),
        (["fd00::/8"], "https://[fd00::1]/x"),
    ],
)
def test_hosts_can_be_added(hosts, url):
    """By name, by pattern, by address and by network."""
    assert policy(*hosts).find_problem(Secret(url)) is None


@pytest.mark.parametrize(
    ("url", "allowed"), [("http://localhost:8000/x", True), ("http://[::1]/x", True), ("http://10.0.0.1/x", False)]
)
def test_links_to_this_machine_need_a_platform_on_this_machine(url, allowed):
    """The sandbox issues such links; a platform on another machine has no business there."""
    assert (policy(base_url="http://127.0.0.1:9").find_problem(Secret(url)) is None) is allowed
    assert policy(base_url=PUBLIC, allow_http=True).find_problem(Secret(url))


def test_plain_http_needs_allow_http():
    """The host has to be allowed as well."""
    assert policy(allow_http=True).find_problem(Secret(f"http://{COS}/x")) is None
    assert "allow_http" in policy().find_problem(Secret(f"http://{COS}/x"))
    assert policy(allow_http=True).find_problem(Secret("http://evil.example/x"))


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("129.211.1.1", True),
        ("2402:4e00::1", True),
        ("64:ff9b::81d3:101", True),
        *((each, False) for each in ("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254")),
        *((each, False) for each in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255")),
        *((each, False) for each in ("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1")),
        *((each, False) for each in ("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::")),
        *((each, False) for each in ("192.0.0.192", "192.88.99.1", "198.18.0.1", "240.0.0.1", "168.63.129.16")),
        *((each, False) for each in ("::10.0.0.1", "::7f00:1", "::ffff:0:10.0.0.1", "64:ff9b:1::a00:1", "100::1")),
        *((each, False) for each in ("2001:0:a00:1::", "2001:db8::1", "3fff::1", "5f00::1", "fec0::1", "fe00::1")),
        ("2002:81d3:101::", True),
    ],
)
def test_only_public_addresses_are_allowed(address, allowed):
    """An IPv6 address that leads to an IPv4 address is judged as that one."""
    assert policy().allows_address(address) is allowed


def test_addresses_of_an_added_network_are_allowed():
    """Inside Tencent Cloud, the names of object storage lead to private addresses."""
    added = policy(*wxtcb.TRANSFER_HOSTS, "169.254.0.0/24", "10.0.0.0/8")
    assert [added.allows_address(each) for each in ("169.254.0.47", "169.254.169.254")] == [True, False]
    assert added.allows_address("::ffff:10.0.0.1")
    assert policy("64:ff9b:1::/48").allows_address("64:ff9b:1::a00:1")
    assert policy(base_url="http://localhost").allows_address("127.0.0.1")


@pytest.mark.parametrize(
    "host", ["https://a.example", "a.example:443", "*", "a*.example", "10.0.0.0/33", "a b", "*.", ""]
)
def test_invalid_host_is_rejected(new_session, host):
    """The error names the option."""
    with pytest.raises(InvalidArgument, match="transfer_hosts"):
        new_session(transfer_hosts=[host])


@pytest.mark.parametrize("hosts", ["a.example", None, 5])
def test_hosts_must_be_a_list(new_session, hosts):
    """A string would be split into characters."""
    with pytest.raises(InvalidArgument, match="transfer_hosts"):
        new_session(transfer_hosts=hosts)


@pytest.mark.parametrize(
    "url", ["https://169.254.169.254/x", "https://metadata.google.internal/x", "http://localhost/x"]
)
async def test_link_of_a_reply_into_a_private_network_is_rejected(new_session, wechat, url, tmp_path):
    """Neither uploads nor downloads follow it, and no further link is requested."""
    wechat.usual["/componenttcb/uploadfile"] = dict.fromkeys(
        ("url", "token", "authorization", "file_id", "cos_file_id"), "t"
    ) | {"url": url}
    wechat.usual["/componenttcb/staticuploadfile"] = {"signed_url": url, "token": "TOKEN-OF-COS"}
    link = {"fileid": "f", "download_url": url, "status": 0, "errmsg": "ok"}
    wechat.usual["/componenttcb/batchdownloadfile"] = {"file_list": [link]}
    async with new_session(retry=QUICK) as session:
        for transfer in (
            storage.upload_file(session, "e", "x", b""),
            hosting.upload_file(session, "e", "x", b""),
            storage.download_file(session, "e", "f", tmp_path / "f"),
        ):
            with pytest.raises(BadReply, match=r"link in the reply cannot be used.*transfer_hosts.*No file was sent"):
                await transfer
        with pytest.raises(InvalidArgument, match=r"^url cannot be used.*transfer_hosts"):
            await storage.download_url(session, url, tmp_path / "f")
    assert [len(wechat.sent_to(f"/componenttcb/{name}")) for name in ("uploadfile", "staticuploadfile")] == [1, 1]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def resolve(monkeypatch):
    """Return a function that makes every host name lead to an address of this machine, with a port of its own."""

    def lead(*addresses, port):
        async def getaddrinfo(self, host, _, **__):
            return [
                (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
                for each in addresses
            ]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)

    return lead


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]], ids=len)
@pytest.mark.parametrize("connector", ["own", "of the caller"])
async def test_allowed_host_with_a_private_address_is_rejected(
    new_session, serve, resolve, wechat, *, addresses, connector, tmp_path, exposed_text
):
    """No request is sent there, and no attempt is repeated; the error says what to do."""
    server = await serve(FINE)
    port = int(server.url.rpartition(":")[2])
    resolve(*addresses, port=port)
    url = f"http://{COS}:{port}/x?sign=S1GNATURE-1234"
    wechat.usual["/componenttcb/staticuploadfile"] = {"signed_url": url, "token": "TOKEN-OF-COS"}
    http = None if connector == "own" else aiohttp.TCPConnector(happy_eyeballs_delay=None)
    async with new_session(allow_http=True, retry=QUICK, http=http) as session:
        with pytest.raises(
            TransferError, match=r"address 127\.0\.0\.\d, which is not public.*transfer_hosts"
        ) as caught:
            await storage.download_url(session, url, tmp_path / "f")
        assert "S1GNATURE" not in exposed_text(caught.value)
        with pytest.raises(TransferError, match=r"not public.*The file was not stored"):
            await hosting.upload_file(session, "e", "x", b"hello")
    if http is not None:
        await http.close()
    assert server.requests == []
    assert len(wechat.sent_to("/componenttcb/staticuploadfile")) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options", [{"base_url": ON_LOOPBACK}, {"transfer_hosts": [*wxtcb.TRANSFER_HOSTS, "127.0.0.1"]}]
)
async def test_allowed_private_address_is_connected_to(new_session, serve, resolve, options, tmp_path):
    """It is in an added network, or the platform is on this machine."""
    server = await serve(FINE)
    resolve("127.0.0.1", port=int(server.url.rpartition(":")[2]))
    async with new_session(allow_http=True, **options) as session:
        await storage.download_url(session, f"http://{COS}/x", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"ok"


async def test_address_of_a_proxy_is_not_checked(new_session, serve, tmp_path):
    """A proxy resolves the host itself, and is usually in the private network."""
    server = await serve(FINE)
    async with new_session(allow_http=True, proxy=server.url) as session:
        await storage.download_url(session, f"http://{COS}/x", tmp_path / "f")
    assert server.requests[0][0].startswith(f"GET http://{COS}/x HTTP/1.1")


async def test_unix_socket_of_the_caller_is_used(new_session, serve, tmp_path):
    """It has no IP address."""
    path = str(tmp_path / "socket")

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(FINE)
        writer.close()

    async with (
        await asyncio.start_unix_server(answer, path),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http,
        new_session(allow_http=True, http=http) as session,
    ):
        await storage.download_url(session, f"http://{COS}/x", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"ok"
