"""Link policy: the hosts and addresses to which files may be sent, and from which they may be fetched.

A link comes from a reply, or from a text that a tenant typed. It must not lead into the network of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

import attrs

from wxtcb._object_storage.urls import quote_invalid, raw_url
from wxtcb.errors import InvalidArgument
from wxtcb.validation import is_loopback

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from wxtcb.secret import Secret

# The hosts in the samples of the platform's pages: object storage (COS), and the domain of an environment's files.
TRANSFER_HOSTS: Final = ("*.myqcloud.com", "*.tcb.qcloud.la")

_Address: TypeAlias = "IPv4Address | IPv6Address"
_HOST_PATTERN: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
# An IPv6 address that a gateway translates to the IPv4 address in its last 32 bits (RFC 6052).
_NAT64: Final = IPv6Network("64:ff9b::/96")
# The networks of IANA's registries of special-purpose addresses that are not public. What `is_global` knows of them
# depends on the patch release of Python.
_SPECIAL_NETWORKS: Final = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/3"),
            # Everything but 2000::/3, which is all that is assigned to the public Internet.
            *("::/3", "4000::/2", "8000::/1"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            # Not in the registries: the services of an Azure host for its virtual machines.
            "168.63.129.16/32",
        ),
    )
)


@attrs.frozen
class LinkPolicy:
    """Rules for links: allowed host names, suffixes of host names and networks.

    `loopback` allows hosts on this machine, also by plain http. `allow_http` allows plain http to every allowed host.
    """

    names: frozenset[str]
    suffixes: tuple[str, ...]
    networks: tuple[IPv4Network | IPv6Network, ...]
    loopback: bool = False
    allow_http: bool = False

    @classmethod
    def create(cls, hosts: Iterable[str], *, base_url: str, allow_http: bool) -> LinkPolicy:
        """Return the policy for ``Session(transfer_hosts=hosts)``; raise `InvalidArgument` for an invalid entry."""
        names: set[str] = set()
        suffixes: list[str] = []
        networks: list[IPv4Network | IPv6Network] = []
        for host in hosts:
            try:
                networks.append(ip_network(host, strict=False))
            except ValueError as error:
                name = host.lower()
                if not _HOST_PATTERN.fullmatch(name):
                    raise InvalidArgument(
                        f"transfer_hosts: {host!r} is invalid; use a host name such as files.example.com, a pattern "
                        "such as *.example.com, or a network such as 10.0.0.0/8"
                    ) from error
                if name.startswith("*."):
                    suffixes.append(name[1:])
                else:
                    names.add(name)
        return cls(frozenset(names), tuple(suffixes), tuple(networks), is_loopback(base_url), allow_http)

    def find_problem(self, url: Secret) -> str | None:
        """Return why *url* must not be used, or None; the text contains no more of the URL than its host."""
        try:
            parts = urlsplit(quote_invalid(url))
            usable = parts.port != 0
            host = (raw_url(url).raw_host or "").lower()
        # `urlsplit` raises for an invalid IPv6 host, `port` for a port that is not a number in the valid range.
        except ValueError:
            return "it is not a valid URL"
        # aiohttp uses the host that yarl finds. A URL that both read differently is malformed on purpose.
        if not usable or not parts.scheme or not host or host != parts.hostname or parts.username is not None:
            return "it is not a valid URL without user and password"
        is_local = self.loopback and _is_loopback_host(host)
        if not is_local and not self._allows_host(host):
            return f"its host {host[:100]!r} is not allowed; if you trust it, add it to transfer_hosts of the Session"
        if parts.scheme != "https" and not (parts.scheme == "http" and (is_local or self.allow_http)):
            return "it is neither https nor http to this machine; set allow_http=True for plain http to another one"
        return None

    def allows_address(self, text: str) -> bool:
        """Return whether a connection to the IP address *text* is allowed: a public one, or one in `networks`."""
        address = ip_address(text)
        embedded = _embedded_ipv4(address)
        if any(each in network for each in (address, embedded) if each for network in self.networks):
            return True
        address = embedded or address
        if address.is_loopback:
            return self.loopback
        return address.is_global and not any(address in network for network in _SPECIAL_NETWORKS)

    def _allows_host(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            name = host.removesuffix(".")
            return bool(_HOST_PATTERN.fullmatch(name)) and (name in self.names or name.endswith(self.suffixes))
        # A literal address is allowed only by a network: the platform's links have names.
        return any(address in network for network in self.networks)


def _is_loopback_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _embedded_ipv4(address: _Address) -> IPv4Address | None:
    """Return the IPv4 address to which packets for an IPv6 address go, if there is one."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
