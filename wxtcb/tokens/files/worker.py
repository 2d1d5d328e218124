"""The thread that does what a `SqliteStore` asks of its file, so that nothing blocks an event loop."""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from wxtcb._sqlite import UnusableFile, is_corrupt, is_locked
from wxtcb.errors import TokenStoreError
from wxtcb.tokens.files.sqlite import TokenFile

T = TypeVar("T")

PATIENCE: Final = 1.5  # seconds; whoever asks a store gives up after 2
LOOK: Final = 0.02
_TRY_AGAIN: Final = 0.003


class Unchanged(Exception):
    """What a job waits for has not happened yet."""


@attrs.define(eq=False)
class FileOperation:
    """Something to be asked of the file, who is told the answer, and until when it makes sense."""

    ask: Callable[[TokenFile], Any]  # what it returns is what the future is of
    future: Future[Any]
    deadline: float

    def settle(self, result: object) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def is_over(self) -> bool:
        return self.future.cancelled() or time.monotonic() >= self.deadline


@attrs.define(eq=False)
class Worker:
    """A thread that owns the connection to the file at `path`; the first job starts it.

    What meets the lock of another process is tried again every few milliseconds while other jobs go on: so a writer
    that stands still delays no reader, here or elsewhere.
    """

    path: Path
    _jobs: queue.SimpleQueue[FileOperation] = attrs.field(init=False, factory=queue.SimpleQueue[FileOperation])
    _locked: list[FileOperation] = attrs.field(init=False, factory=list[FileOperation])
    _watches: list[FileOperation] = attrs.field(init=False, factory=list[FileOperation])
    _next_look: float = attrs.field(init=False, default=0.0)
    _thread: threading.Thread | None = attrs.field(init=False, default=None)
    _end: FileOperation | None = attrs.field(init=False, default=None)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def submit(self, ask: Callable[[TokenFile], T], within: float = PATIENCE) -> Future[T]:
        """Let the thread *ask* the file, for about *within* seconds; cancel the future to take it back."""
        future: Future[T] = Future()
        with self._lock:
            if self._end is not None:
                raise closed(self.path)
            self._jobs.put(FileOperation(ask, future, time.monotonic() + within))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wxtcb-token-store", daemon=True)
                self._thread.start()
        return future

    def wait_for_change(self, component_appid: str, version: str, within: float) -> Future[None]:
        """Let the thread wait for another version, for *within* seconds."""

        def look(file: TokenFile) -> None:
            if file.version(component_appid) == version:
                raise Unchanged

        return self.submit(look, within)

    def stop(self) -> Future[None]:
        """Let the thread do what was asked so far, close the file and end; the future tells when it has."""
        with self._lock:
            if self._end is None:
                self._end = FileOperation(TokenFile.close, Future(), time.monotonic())
                self._jobs.put(self._end)
                if self._thread is None:
                    self._end.settle(None)
            return self._end.future

    def is_open(self) -> bool:
        return self._thread is not None and self._end is None

    def _run(self) -> None:
        file = TokenFile(self.path)
        while self._turn(file):
            pass

    def _turn(self, file: TokenFile) -> bool:
        job = self._next_job()
        if job is not None and job is self._end:
            for each in (*self._locked, *self._watches):
                each.fail(closed(self.path))
            self._do(job, file)
            return False
        if job is not None:
            self._do(job, file)
        self._try_again(file)
        self._look(file)
        return True

    def _next_job(self) -> FileOperation | None:
        try:
            return self._jobs.get(timeout=self._pause())
        except queue.Empty:
            return None

    def _pause(self) -> float | None:
        if self._locked:
            return _TRY_AGAIN
        return max(0.0, self._next_look - time.monotonic()) if self._watches else None

    def _do(self, job: FileOperation, file: TokenFile) -> None:
        if job.future.cancelled():
            return
        try:
            result = job.ask(file)
        except Unchanged:
            self._watches.append(job)
        except Exception as error:
            self._excuse(job, file, error)
        else:
            job.settle(result)

    def _excuse(self, job: FileOperation, file: TokenFile, error: Exception) -> None:
        if is_locked(error) and not job.is_over():
            self._locked.append(job)
            return
        if isinstance(error, sqlite3.Error):
            file.recover(error)
        job.fail(_plain(error, self.path))

    def _try_again(self, file: TokenFile) -> None:
        jobs, self._locked = self._locked, []
        for job in jobs:
            self._do(job, file)

    def _look(self, file: TokenFile) -> None:
        """Where somebody watches and it is time, see whether anything was committed, and if so, what."""
        now = time.monotonic()
        if not self._watches or now < self._next_look:
            return
        self._next_look = now + LOOK
        stirred = _is_stirred(file)
        jobs, self._watches = self._watches, []
        for job in jobs:
            if job.is_over():
                job.settle(None)
            elif stirred:
                self._do(job, file)
            else:
                self._watches.append(job)


@attrs.define(eq=False)
class Workers:
    """The workers of a store: one in each process, for a connection must not be used on the other side of a fork.

    What was inherited from a parent is left alone, and never given up: not even to close it would be safe.
    """

    path: Path
    _workers: dict[int, Worker] = attrs.field(init=False, factory=dict[int, Worker])
    _closed: bool = attrs.field(init=False, default=False)

    def for_this_process(self) -> Worker:
        """Return the worker of this process; `TokenStoreError` after `close`."""
        if self._closed:
            raise closed(self.path)
        # no lock: it might be held in the moment of a fork. A worker too many has not started anything.
        return self._workers.get(os.getpid()) or self._workers.setdefault(os.getpid(), Worker(self.path))

    def close(self) -> Future[None]:
        """Stop the worker of this process and have no other; the future tells when its file is closed."""
        self._closed = True
        return self._workers.setdefault(os.getpid(), Worker(self.path)).stop()

    def __del__(self) -> None:
        worker = self._workers.get(os.getpid())
        if worker is not None and worker.is_open():
            warnings.warn(f"a SqliteStore was never closed: {self.path}", ResourceWarning, stacklevel=2, source=self)
            worker.stop()


def closed(path: Path) -> TokenStoreError:
    """Return what is raised by everything asked of a store that was closed."""
    return TokenStoreError(f"the store on {path} was closed", permanent=True)


def _is_stirred(file: TokenFile) -> bool:
    try:
        return file.stirred()
    except Exception:
        return True  # those who watch will meet it themselves


def _plain(error: Exception, path: Path) -> Exception:
    """Return what tells of *error* without its frames, which hold the document."""
    if is_locked(error):
        return TokenStoreError(f"another process held the lock on {path} for more than {PATIENCE:g} s")
    if isinstance(error, UnusableFile):
        return TokenStoreError(str(error), permanent=error.permanent)
    if isinstance(error, sqlite3.Error):
        return TokenStoreError(f"{path}: {error}", permanent=is_corrupt(error))
    if isinstance(error, OSError):
        return TokenStoreError(f"{path}: {error.strerror}")
    return error.with_traceback(None)
