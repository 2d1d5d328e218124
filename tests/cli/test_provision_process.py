"""Command `wxtcb provision` in a process of its own: signals, terminals, and output that fails."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .children import start
from .conftest import CREATE, Platform, Tenants, contains_no_secret, wait_for_request

SHARE = "/componenttcb/batchshareenv"


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("number", "code", "as_json"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_signal_ends_the_run_after_the_report(
    tenants: Tenants, platform: Platform, number: int, code: int, *, as_json: bool
) -> None:
    """The report contains unfinished tenants and no credential."""
    platform.sandbox.faults.hang(path=SHARE)
    words = ["--json"] if as_json else []
    file = tenants("a,a1,,", "b,b1,wx0000000000000001,", *(f"{name},{name}1,wx0000000000000001," for name in "cdef"))
    process = start("provision", file, "--yes", "--concurrency", 1, *words, fast=True)
    wait_for_request(platform, SHARE)
    process.send_signal(number)
    assert process.stderr is not None
    assert " does not exist" in process.stderr.readline()
    assert process.stderr.readline().startswith("Stopping: ")
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, err) == (code, "")
    assert contains_no_secret(platform, out, err)
    if as_json:
        document = json.loads(out)
        assert document["counts"]["unfinished"] >= 1
        assert document["stopped"]
    else:
        assert "\nunfinished: " in out
        assert "\nStopped early: " in out


def test_closed_pipe_does_not_stop_the_run(tenants: Tenants, platform: Platform) -> None:
    """The exit code is that of the run, and no traceback is printed."""
    file = tenants(*(f"t{number},t{number},," for number in range(30)))
    process = start("provision", file, "--yes", fast=True)
    assert process.stdout is not None
    process.stdout.close()
    process.wait()
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read().count("\n")) == (0, 1)
    process.stderr.close()
    assert len(platform.sandbox.world.environments) == 30


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_full_disk_does_not_stop_the_run(tenants: Tenants, platform: Platform, words: list[str]) -> None:
    """The failure is reported once, the report goes to standard error, and the exit code is that of the run."""
    with Path("/dev/full").open("w") as full:
        process = start("provision", tenants("a,x,,", "b,y,,"), "--yes", *words, stdout=full, fast=True)
    _, err = process.communicate()
    assert process.returncode == 0
    assert err.count("No space left on device") == 1
    assert ('"done": 2' if words else "2 of 2 done in") in err
    assert "Traceback" not in err


def test_full_disk_behind_both_streams_does_not_stop_the_run(tenants: Tenants, platform: Platform) -> None:
    """The report is lost, and the exit code is that of the run."""
    platform.sandbox.world.add("y")
    with Path("/dev/full").open("w") as full:
        process = start("provision", tenants("a,x,,", "b,y,,"), "--yes", stdout=full, stderr=full)
    assert process.wait() == 3
    assert len(platform.sandbox.world.environments) == 2


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("words", "code"), [((), 2), (("--yes",), 0)])
def test_closed_streams_do_not_stop_the_run(
    tenants: Tenants, platform: Platform, words: tuple[str, ...], code: int
) -> None:
    """Without standard input, --yes is still required."""
    closed = ("sh", "-c", 'exec "$@" <&- >&-', "sh")
    process = start("provision", tenants("a,x,,"), *words, wrapper=closed)
    _, err = process.communicate()
    assert (process.returncode, "Traceback" in err) == (code, False)
    assert len(platform.sandbox.world.environments) == (code == 0)


def test_force_color_does_not_apply_to_a_pipe(tenants: Tenants, platform: Platform) -> None:
    """Some users set FORCE_COLOR permanently: a pipe still gets neither bars nor escape codes."""
    process = start("provision", tenants("a,x,,"), "--yes", env={"FORCE_COLOR": "1", "TERM": "xterm"})
    out, _ = process.communicate()
    assert "\x1b" not in out
    assert "\n[1/1] a: done" in out


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("\n", 2)])
def test_terminal_is_asked_for_confirmation(tenants: Tenants, platform: Platform, answer: str, code: int) -> None:
    """Only "y" lets the run start; it shows bars."""
    file = tenants("商户一号,x,wx0000000000000001,api", "商户二号,,,")
    screen, exit_code = run_at_terminal(answer, "provision", file)
    assert exit_code == code
    assert f"Open 2 environments, which are billed, at {platform.sandbox.url}? [y/N]" in screen
    created = len(platform.sandbox.world.environments)
    if code == 0:
        assert created == 2
        assert "environments opened" in screen
        assert "2 of 2 done in" in screen
    else:
        assert created == 0
        assert "Cancelled. Nothing was changed." in screen


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["handled", "ignored"])
def _ctrl_c(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test with Ctrl-C handled and with Ctrl-C ignored, as a shell ignores it for a background job."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c", "measured")
def test_ctrl_c_at_the_question_changes_nothing(tenants: Tenants, platform: Platform) -> None:
    """The exit code is 130, and no traceback is printed."""
    screen, code = run_at_terminal("\x03", "provision", tenants("a,,,"))
    assert (code, platform.sandbox.count(CREATE)) == (130, 0)
    assert "Nothing was changed." in screen
    assert "Traceback" not in screen


@pytest.mark.usefixtures("measured")
def test_bars_count_tenants_that_are_not_done(tenants: Tenants, platform: Platform) -> None:
    """The bar of the tenants shows the number."""
    platform.sandbox.world.add("x")
    screen, code = run_at_terminal("", "provision", tenants("a,x,,"), "--yes")
    assert code == 3
    assert "1 not done" in screen


def test_terminal_lists_all_tenants_that_are_not_done(tenants: Tenants, platform: Platform) -> None:
    """The list is not truncated, because the bars name no tenant."""
    for number in range(60):
        platform.sandbox.world.add(f"a{number}")
    file = tenants(*(f"t{number},a{number},," for number in range(60)))
    screen, code = run_at_terminal("", "provision", file, "--yes")
    assert code == 3
    assert screen.count(": conflict - ") == 60
    assert "Nothing to do." in screen


@pytest.mark.usefixtures("measured")
def test_signal_is_answered_above_the_bars(tenants: Tenants, platform: Platform) -> None:
    """The message says what happens next; the tenant in progress is reported as unknown."""
    platform.sandbox.faults.hang(path=CREATE)
    screen, code = run_at_terminal(
        "", "provision", tenants("a,x,,"), "--yes", interrupt_after=lambda: wait_for_request(platform, CREATE)
    )
    assert code == 130
    assert "Stopping: " in screen
    assert "a: unknown" in screen


def run_at_terminal(answer: str, *words: object, interrupt_after: Callable[[], None] | None = None) -> tuple[str, int]:
    """Run a command at a terminal of 80 columns, and return what it shows and its exit code.

    *answer* is typed at the question. Ctrl-C is pressed twice when *interrupt_after* has returned.
    """
    controller, terminal = pty.openpty()
    options = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    process = start(*words, fast=True, env={"COLUMNS": "80", "TERM": "xterm"}, start_new_session=True, **options)
    os.close(terminal)
    screen = ""
    is_answered, is_repeated, quiet_seconds = not answer, False, 0
    for chunk in _chunks(controller):
        screen += chunk
        quiet_seconds = 0 if chunk else quiet_seconds + 1
        # Repeated after a long silence: a signal that arrives just before the command waits for a line is lost.
        # On a busy machine, an earlier repetition would interrupt the answer to the first signal.
        if answer == "\x03" and "[y/N]" in screen and (not is_answered or quiet_seconds >= 15):
            quiet_seconds = 0
            is_answered = True
            process.send_signal(signal.SIGINT)
        if not is_answered and "[y/N]" in screen:
            is_answered = True
            os.write(controller, answer.encode())
        if interrupt_after and "environments opened" in screen:
            interrupt_after()
            interrupt_after = None
            process.send_signal(signal.SIGINT)
        if not is_repeated and "Stopping" in screen:
            is_repeated = True
            process.send_signal(signal.SIGINT)
    code = process.wait()
    os.close(controller)
    return screen, code


def _chunks(descriptor: int) -> Iterator[str]:
    """Iterate over the output until its end; an empty string means that nothing came for a second."""
    while True:
        if not select.select([descriptor], [], [], 1.0)[0]:
            yield ""
            continue
        try:
            yield os.read(descriptor, 1 << 16).decode(errors="replace")
        except OSError:
            return
