"""`wxtcb provision` as a process of its own: signals, terminals and readers who leave."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .children import start
from .conftest import Platform, contains_no_secret

CREATE = "/componenttcb/createenv"
ROWS = [f"商户{number},a{number},wx000000000000000{number},api;web" for number in range(8)]
Tenants = Callable[..., Path]


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("number", "code", "as_json"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_a_signal_ends_it_after_the_report(
    tenants: Tenants, platform: Platform, number: int, code: int, *, as_json: bool
) -> None:
    """No further create is sent; who is unfinished is told, by id where there is one; no credential is shown."""
    platform.sandbox.faults.hang(path="/componenttcb/batchshareenv")
    words = ["--json"] if as_json else []
    file = tenants("a,a1,,", "b,b1,wx1,", *(f"{name},{name}1,wx1," for name in "cdef"))
    process = start("provision", file, "--yes", "--concurrency", 1, *words, fast=True)
    wait_for_request(platform, "/componenttcb/batchshareenv")
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stderr.readline().endswith(" is new: it knows of no earlier run.\n")
    assert process.stderr.readline().startswith("Stopping: nothing new is sent")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert contains_no_secret(platform, out, err)
    if as_json:
        document = json.loads(out)
        assert document["counts"]["unfinished"] >= 1
        assert document["stopped"] == "cancelled"
    else:
        assert "unfinished: Not wrong" in out
        assert "Stopped early: cancelled" in out


def wait_for_request(platform: Platform, path: str) -> None:
    """Wait until the platform was asked for *path*."""
    end = time.monotonic() + 60
    while not platform.sandbox.count(path):
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_reader_who_leaves_early_stops_nothing(tenants: Tenants, platform: Platform) -> None:
    """The run goes on to its end and its exit code holds, without a traceback."""
    file = tenants(*(f"t{number},t{number},," for number in range(30)))
    process = start("provision", file, "--yes", fast=True)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(60)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read().count("\n")) == (0, 1)
    process.stderr.close()
    assert len(platform.sandbox.world.environments) == 30


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_full_disk_stops_nothing(tenants: Tenants, platform: Platform, words: list[str]) -> None:
    """It is said once, the report goes where it can still be read, and the exit code holds."""
    with Path("/dev/full").open("w") as full:
        process = start("provision", tenants("a,x,,", "b,y,,"), "--yes", *words, stdout=full, fast=True)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err.count("No space left on device") == 1
    assert ('"done": 2' if words else "2 of 2 done in") in err
    assert "Traceback" not in err


def test_nowhere_to_write_stops_nothing(tenants: Tenants, platform: Platform) -> None:
    """Both streams on a full disk, and the run still goes to its end."""
    platform.sandbox.world.add("y")
    with Path("/dev/full").open("w") as full:
        process = start("provision", tenants("a,x,,", "b,y,,"), "--yes", stdout=full, stderr=full)
    assert process.wait(60) == 3
    assert len(platform.sandbox.world.environments) == 2


@pytest.mark.usefixtures("measured")
def test_closed_streams_stop_nothing(tenants: Tenants, platform: Platform) -> None:
    """With nothing to read from and to write to it spends only after a --yes, and ends as it should."""
    closed = ("sh", "-c", 'exec "$@" <&- >&-', "sh")
    for words, code in (((), 2), (("--yes",), 0)):
        process = start("provision", tenants("a,x,,"), *words, wrapper=closed)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "Traceback" in err) == (code, False)
        assert len(platform.sandbox.world.environments) == (code == 0)


def test_a_pipe_is_no_terminal_whatever_the_colours(tenants: Tenants, platform: Platform) -> None:
    """FORCE_COLOR, which many set for good, puts neither bars nor escape codes into it."""
    process = start("provision", tenants("a,x,,"), "--yes", env={"FORCE_COLOR": "1", "TERM": "xterm"})
    out, _ = process.communicate(timeout=60)
    assert "\x1b" not in out
    assert "\n[1/1] a: done" in out


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 2)])
def test_at_a_terminal_it_asks(tenants: Tenants, platform: Platform, answer: str, code: int) -> None:
    """Only a yes lets it spend; the bars and the table fit into 80 columns, Chinese names included."""
    screen, code_seen = typed(answer, "provision", tenants("商户一号,x,wx0000000000000001,api", "商户二号,,,"))
    assert code_seen == code
    assert f"Open 2 environments, which are billed, at {platform.sandbox.url}? [y/N]" in screen
    opened = len(platform.sandbox.world.environments)
    if code == 0:
        assert opened == 2
        assert "environments opened" in screen
        assert "2 of 2 done in" in screen
    else:
        assert opened == 0
        assert "You said no. Nothing was changed." in screen


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["heeded", "ignored"])
def _ctrl_c(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the tests themselves heed Ctrl-C, or ignore it as `cmd &` makes them."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c", "measured")
def test_ctrl_c_at_the_question_changes_nothing(tenants: Tenants, platform: Platform) -> None:
    """It ends with 130 and without a traceback, whatever the tests were started with."""
    screen, code = typed("\x03", "provision", tenants("a,,,"))
    assert (code, platform.sandbox.count(CREATE)) == (130, 0)
    assert "Nothing was changed." in screen
    assert "Traceback" not in screen


@pytest.mark.usefixtures("measured")
def test_failures_show_in_the_bars(tenants: Tenants, platform: Platform) -> None:
    """The tenants' bar counts those that are not done."""
    platform.sandbox.world.add("x")
    screen, code = typed("", "provision", tenants("a,x,,"), "--yes")
    assert code == 3
    assert "1 not done" in screen


def test_a_terminal_is_told_of_everybody_who_is_not_done(tenants: Tenants, platform: Platform) -> None:
    """The bars name nobody, so no list is cut there."""
    for number in range(60):
        platform.sandbox.world.add(f"a{number}")
    screen, code = typed("", "provision", tenants(*(f"t{number},a{number},," for number in range(60))), "--yes")
    assert code == 3
    assert screen.count(": conflict - alias") == 60
    assert "There is nothing to do." in screen


@pytest.mark.usefixtures("measured")
def test_a_signal_at_a_terminal_is_answered_above_the_bars(tenants: Tenants, platform: Platform) -> None:
    """Ctrl-C says what happens now."""
    platform.sandbox.faults.hang(path=CREATE)
    screen, code = typed("", "provision", tenants("a,x,,"), "--yes", then=lambda: wait_for_request(platform, CREATE))
    assert code == 130
    assert "Stopping: nothing new is sent" in screen
    assert "a: unknown" in screen


def typed(answer: str, *words: object, then: Callable[[], None] | None = None) -> tuple[str, int]:
    """Run at a terminal of 80 columns: *answer* is typed at the question, and Ctrl-C twice after *then*."""
    ours, theirs = pty.openpty()
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = start(*words, fast=True, env={"COLUMNS": "80", "TERM": "xterm"}, start_new_session=True, **options)
    os.close(theirs)
    screen = ""
    sent, again = not answer, False
    for chunk in _chunks(ours):
        screen += chunk
        if answer == "\x03" and "[y/N]" in screen and (not sent or not chunk):
            sent = True
            process.send_signal(signal.SIGINT)  # again if nothing comes: one just before it waits for a line is lost
        if not sent and "[y/N]" in screen:
            sent = True
            os.write(ours, answer.encode())
        if then and "environments opened" in screen:
            then()
            then = None
            process.send_signal(signal.SIGINT)
        if not again and "Stopping" in screen:
            again = True
            process.send_signal(signal.SIGINT)
    code = process.wait(60)
    os.close(ours)
    return screen, code


def _chunks(descriptor: int) -> Iterator[str]:
    """Read until the end; a second in which nothing comes is an empty text."""
    while True:
        if not select.select([descriptor], [], [], 1.0)[0]:
            yield ""
            continue
        try:
            yield os.read(descriptor, 1 << 16).decode(errors="replace")
        except OSError:
            return
