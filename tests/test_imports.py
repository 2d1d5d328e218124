"""The front door, and that every room can be entered first and lightly."""

from __future__ import annotations

import inspect
import json
import operator
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wxtcb
from wxtcb import errors

ROOT = Path(wxtcb.__file__).parent
MODULES = sorted(
    ".".join(file.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in ROOT.rglob("*.py")
    if file.name != "__main__.py"
)
EXTRAS = [
    "typer",
    "rich",
    "redis",
    "cryptography",
    "defusedxml",
    "pytest",
    "psycopg",
    "procrastinate",
    "opentelemetry",
    "prometheus_client",
    "uvloop",
]
# Every import of a room enters by the front door, and that of a module by its package: a fork behind these is as good
# as a fresh interpreter, and quicker.
FORK = """
import gc, importlib, json, os, sys, traceback
import wxtcb

gc.freeze()

def told_by_fork(act, *args):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            told = act(*args)
        except BaseException:
            told = traceback.format_exc()
        with os.fdopen(writer, "w") as said:
            said.write(told)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        words = told.read()
    os.wait()
    return words
"""
IMPORT_EACH = f"""
{FORK}
names, extras = map(json.loads, sys.argv[1:])

def enter(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return "" if (error.name or "").split(".")[0] in extras else repr(error)
    except Exception:
        return traceback.format_exc()
    return ""

def enter_all(package):
    told = {{package: enter(package)}}
    for name in names:
        if name.rpartition(".")[0] == package:
            told |= json.loads(told_by_fork(lambda: json.dumps(enter_all(name))))
    return told

print(json.dumps(enter_all("wxtcb")))
"""
REACH_EACH = f"""
{FORK}

def reach(room):
    return getattr(wxtcb, room).__name__

print(json.dumps({{room: told_by_fork(reach, room) for room in sys.argv[1:]}}))
"""


def run(code, *args):
    """Run *code* in a fresh interpreter with warnings as errors, and return what it prints as JSON."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return json.loads(subprocess.run(command, env=environ, check=True, capture_output=True, timeout=300).stdout)


def own(value):
    """Tell whether *value* is a class, function or the like that a module of wxtcb made."""
    return getattr(value, "__module__", "").split(".")[0] == "wxtcb"


def test_every_module_can_be_imported_first():
    """In an interpreter of its own each module loads without a circle; only an extra may be missing."""
    failures = run(IMPORT_EACH, *map(json.dumps, (MODULES, EXTRAS)))
    assert sorted(failures) == MODULES
    assert {name: told for name, told in failures.items() if told} == {}


def test_the_front_door_loads_no_extra_and_no_room_that_few_need():
    """`import wxtcb` needs none of the extras, and loads neither sandbox nor provision nor command line."""
    loaded = run("import json, sys, wxtcb; print(json.dumps([*sys.modules]))")
    assert {name.split(".")[0] for name in loaded} & set(EXTRAS) == set()
    assert {"wxtcb.sandbox", "wxtcb.provision", "wxtcb.cli", "wxtcb.testing"} & set(loaded) == set()


def test_what_reads_files_is_loaded_when_it_is_asked_for():
    """It is listed all the same; `import wxtcb.provision` does not load the formats, and what they stand on."""
    assert {"read_tenants", "TenantsFileError"} <= set(dir(wxtcb.provision))
    loaded = run("import json, sys, wxtcb.provision; print(json.dumps([*sys.modules]))")
    assert "wxtcb.provision.tenants_file" not in loaded


def test_a_room_is_reached_as_an_attribute():
    """After `import wxtcb` alone, `wxtcb.<room>` is the module."""
    rooms = ["provision", "sandbox", "telemetry", "api", "errors", "events"]
    assert run(REACH_EACH, *rooms) == {room: f"wxtcb.{room}" for room in rooms}


def test_an_unknown_attribute_is_refused_as_usual():
    """What is not there raises AttributeError with the module's and the attribute's name."""
    with pytest.raises(AttributeError, match=r"module 'wxtcb.provision' has no attribute 'nothing'"):
        _ = wxtcb.provision.nothing
    with pytest.raises(AttributeError, match="module 'wxtcb' has no attribute 'nothing'"):
        operator.attrgetter("nothing")(wxtcb)


def test_the_list_of_names_is_sorted_and_has_no_name_twice():
    """`__all__` can be read like an index."""
    assert sorted(set(wxtcb.__all__)) == wxtcb.__all__


@pytest.mark.parametrize("name", wxtcb.__all__)
def test_a_listed_name_can_be_had(name):
    """Everything in `__all__` is there."""
    assert getattr(wxtcb, name) is not None


def test_no_public_name_is_missing_from_the_list():
    """What the front door imports under a public name and is no module, it lists."""
    public = {name for name, value in vars(wxtcb).items() if name[0] != "_" and own(value)}
    assert public - set(wxtcb.__all__) == set()


def test_every_error_can_be_had_at_the_front_door():
    """Each class of the tree is exported at top level."""
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert tree - set(wxtcb.__all__) == set()


def test_the_names_of_the_contract_are_all_there():
    """The names that the design promises to users stand at the front door."""
    promised = """
        Session RetryPolicy Timeout endpoints raw Endpoint Repeat Secret WxtcbError ApiError TransportError
        OutcomeUnknown BadReply InvalidArgument TicketError TokenFetchLimit PartialFailure SessionClosed WrongLoop
    """
    assert set(promised.split()) - set(wxtcb.__all__) == set()


def test_the_package_says_that_it_is_typed():
    """`py.typed` is shipped, so that a caller's checker believes the annotations."""
    assert (ROOT / "py.typed").exists()


def test_dir_lists_what_is_loaded_late_as_well():
    """Completion in a shell finds the rooms that are loaded when first asked for."""
    assert {"provision", "sandbox", "Session"} <= set(dir(wxtcb))


LIGHT = """
import sys, wxtcb.tokens
early = {"wxtcb.tokens.cache", "wxtcb.tokens.health", "wxtcb.tokens.files.sqlite"} & {*sys.modules}
print(sorted(early), wxtcb.tokens.Health.__module__)
"""


def test_token_life_is_loaded_when_a_session_opens():
    """Importing wxtcb loads neither renewals nor files nor the doctor, whose name is there all the same."""
    ended = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert ended.stdout == "[] wxtcb.tokens.health\n"


def test_tokens_have_no_other_names():
    """A misspelt name is an AttributeError."""
    with pytest.raises(AttributeError, match=r"'wxtcb.tokens' has no attribute 'Wealth'"):
        operator.attrgetter("tokens.Wealth")(wxtcb)
