"""Streams whose reader leaves, or that lack letters."""

from __future__ import annotations

import io
import os
import sys

import pytest

from wxtcb.cli.streams import ResilientStream, make_streams_resilient


def test_writing_to_nobody_is_no_error() -> None:
    """Neither the write that overflows the buffer nor the flush at the end; afterwards all goes nowhere."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        patient = ResilientStream(stream)
        text = "x" * (1 << 20)
        assert patient.write(text) == len(text)
        patient.flush()
        assert patient.write("more") == 4
        assert patient.fileno() == stream.fileno()


def test_a_flush_to_nobody_is_no_error() -> None:
    """What was buffered before the reader left is let go."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        patient = ResilientStream(stream)
        patient.write("x")
        os.close(read)
        patient.flush()


def test_streams_of_other_kinds_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has put a buffer there gets its text."""
    buffer, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", buffer)
    monkeypatch.setattr(sys, "stderr", errors)
    make_streams_resilient()
    sys.stdout.write("商户")
    assert buffer.getvalue() == "商户"


class Broken(io.StringIO):
    """A stream without a descriptor, that takes nothing."""

    def write(self, text: str) -> int:
        raise OSError


def test_what_no_stream_takes_is_let_go() -> None:
    """Where it cannot be led elsewhere either, nothing is raised and nothing is tried for ever."""
    assert ResilientStream(Broken(), Broken()).write("x") == 1
