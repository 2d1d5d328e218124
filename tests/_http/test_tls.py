"""TLS settings of connections: the context that wxtcb makes, and which settings verify the server."""

from __future__ import annotations

import ssl

import aiohttp
import pytest

from wxtcb._http import tls


def unverified_context():
    """Return a context that accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_default_context_verifies_and_requires_tls_1_2():
    """Certificate and host name are verified, and old versions of TLS are disabled."""
    context = tls.default_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_minimum_version_does_not_depend_on_python(monkeypatch):
    """A Python that was built with another default does not lower it."""
    lenient = ssl.create_default_context()
    monkeypatch.setattr(ssl, "create_default_context", lambda: lenient)
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        lenient.minimum_version = ssl.TLSVersion.TLSv1
    assert tls.default_context.__wrapped__().minimum_version is ssl.TLSVersion.TLSv1_2


def test_higher_minimum_version_of_the_system_is_kept(monkeypatch):
    """A policy that requires TLS 1.3 is not weakened."""
    strict = ssl.create_default_context()
    strict.minimum_version = ssl.TLSVersion.TLSv1_3
    monkeypatch.setattr(ssl, "create_default_context", lambda: strict)
    assert tls.default_context.__wrapped__().minimum_version is ssl.TLSVersion.TLSv1_3


def test_default_context_writes_no_key_log(monkeypatch, tmp_path):
    """The keys of connections are not written to the file in SSLKEYLOGFILE."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    assert ssl.create_default_context().keylog_filename is not None
    assert tls.default_context.__wrapped__().keylog_filename is None


async def test_settings_of_the_caller_replace_the_default():
    """The context of the session comes first, then that of a connector, then the default."""
    own, other = ssl.create_default_context(), ssl.create_default_context()
    async with aiohttp.TCPConnector(ssl=other) as connector, aiohttp.TCPConnector() as plain:
        assert tls.effective_context(own, connector) is own
        # None: aiohttp uses the settings of the connector.
        assert tls.effective_context(None, connector) is None
        assert tls.effective_context(None, plain) is tls.default_context()
        assert tls.effective_context(None, None) is tls.default_context()
        async with aiohttp.ClientSession(connector=connector, connector_owner=False) as http:
            assert tls.effective_context(None, http) is None


async def test_settings_that_do_not_verify_the_server_are_recognised():
    """A fingerprint verifies the server in another way."""
    no_name = ssl.create_default_context()
    no_name.check_hostname = False
    assert not any(map(tls.is_verified, [unverified_context(), no_name, False]))
    assert all(map(tls.is_verified, [ssl.create_default_context(), True, aiohttp.Fingerprint(bytes(32))]))
