"""TLS settings of connections: wxtcb's own context, and a check of those that the caller passes."""

from __future__ import annotations

import functools
import ssl as tls

import aiohttp


@functools.cache
def default_context() -> tls.SSLContext:
    """Return the context for connections without TLS settings of the caller; all sessions share it.

    It is Python's default context, with two differences. TLS 1.2 is the minimum, however Python was built. The
    environment variable SSLKEYLOGFILE, which makes Python write the keys of all connections to a file, has no effect.
    To use it, pass a context of your own.
    """
    context = tls.create_default_context()
    context.minimum_version = max(context.minimum_version, tls.TLSVersion.TLSv1_2)
    # typeshed does not know that None is accepted.
    context.keylog_filename = None  # type: ignore[assignment]
    context.set_alpn_protocols(("http/1.1",))
    return context


def effective_context(
    context: tls.SSLContext | None, http: aiohttp.ClientSession | aiohttp.TCPConnector | None
) -> tls.SSLContext | None:
    """Return the context for requests; None means the TLS settings of the caller's connector, passed in *http*."""
    if context is None and connector_setting(http) is True:
        return default_context()
    return context


def connector_setting(http: aiohttp.ClientSession | aiohttp.TCPConnector | None) -> object:
    """Return the argument `ssl` of the caller's connector; True, aiohttp's default, means that it has none."""
    connector = http.connector if isinstance(http, aiohttp.ClientSession) else http
    # aiohttp has no public name for it. If it is renamed, requests get a context of their own, which verifies.
    return getattr(connector, "_ssl", True)


def is_verified(setting: object) -> bool:
    """Return whether connections with this `ssl` argument of aiohttp verify the server's certificate and host name."""
    if isinstance(setting, tls.SSLContext):
        return setting.verify_mode is not tls.CERT_NONE and setting.check_hostname
    # True, or a `Fingerprint` of the certificate.
    return setting is not False
