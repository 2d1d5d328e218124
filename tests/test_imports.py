"""The public names of `wxtcb`, and that every module can be imported first and loads little."""

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
# Importing a module imports `wxtcb` and its package first. A fork after those imports is therefore as good as a fresh
# interpreter, and faster.
FORK = """
import gc, importlib, json, os, sys, traceback
import wxtcb

gc.freeze()

def run_in_fork(function, *args):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            result = function(*args)
        except BaseException:
            result = traceback.format_exc()
        with os.fdopen(writer, "w") as pipe:
            pipe.write(result)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        result = pipe.read()
    os.wait()
    return result
"""
IMPORT_EACH = f"""
{FORK}
names, extras = map(json.loads, sys.argv[1:])

def try_import(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        return "" if (error.name or "").split(".")[0] in extras else repr(error)
    except Exception:
        return traceback.format_exc()
    return ""

def try_import_all(package):
    errors = {{package: try_import(package)}}
    for name in names:
        if name.rpartition(".")[0] == package:
            errors |= json.loads(run_in_fork(lambda: json.dumps(try_import_all(name))))
    return errors

print(json.dumps(try_import_all("wxtcb")))
"""
ACCESS_EACH = f"""
{FORK}

def access(name):
    return getattr(wxtcb, name).__name__

print(json.dumps({{name: run_in_fork(access, name) for name in sys.argv[1:]}}))
"""


def run(code, *args):
    """Run *code* in a fresh interpreter with warnings as errors, and return its output, which is JSON."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return json.loads(subprocess.run(command, env=environ, check=True, capture_output=True, timeout=300).stdout)


def is_own(value):
    """Return whether a module of wxtcb defines *value*."""
    return getattr(value, "__module__", "").split(".")[0] == "wxtcb"


def test_every_module_can_be_imported_first():
    """No import cycle; only a package of an extra may be missing."""
    failures = run(IMPORT_EACH, *map(json.dumps, (MODULES, EXTRAS)))
    assert sorted(failures) == MODULES
    assert {name: error for name, error in failures.items() if error} == {}


def test_import_of_wxtcb_loads_no_extra_and_no_optional_package():
    """`import wxtcb` needs no extra, and loads neither sandbox nor provision nor command line."""
    loaded = run("import json, sys, wxtcb; print(json.dumps([*sys.modules]))")
    assert {name.split(".")[0] for name in loaded} & set(EXTRAS) == set()
    assert {"wxtcb.sandbox", "wxtcb.provision", "wxtcb.cli", "wxtcb.testing"} & set(loaded) == set()


def test_file_formats_are_loaded_on_first_access():
    """`import wxtcb.provision` lists the names of the tenants file, but does not load its modules."""
    assert {"read_tenants", "TenantsFileError"} <= set(dir(wxtcb.provision))
    loaded = run("import json, sys, wxtcb.provision; print(json.dumps([*sys.modules]))")
    assert {"wxtcb.provision.tenants_file", "tomllib"} & set(loaded) == set()


def test_public_package_is_an_attribute_of_wxtcb():
    """After `import wxtcb` alone, each public package is accessible."""
    names = ["provision", "sandbox", "telemetry", "api", "errors", "events"]
    assert run(ACCESS_EACH, *names) == {name: f"wxtcb.{name}" for name in names}


def test_unknown_attribute_raises_attribute_error():
    """The message contains the names of the module and the attribute."""
    with pytest.raises(AttributeError, match=r"module 'wxtcb.provision' has no attribute 'nothing'"):
        _ = wxtcb.provision.nothing
    with pytest.raises(AttributeError, match="module 'wxtcb' has no attribute 'nothing'"):
        operator.attrgetter("nothing")(wxtcb)


def test_all_is_sorted_and_without_duplicates():
    """`__all__` can be read like an index, with the constants first."""
    assert sorted(set(wxtcb.__all__), key=lambda name: (not name.isupper(), name)) == wxtcb.__all__


@pytest.mark.parametrize("name", wxtcb.__all__)
def test_exported_name_exists(name):
    """Every name in `__all__` is an attribute."""
    assert getattr(wxtcb, name) is not None


def test_all_contains_every_public_name():
    """Everything of wxtcb that `wxtcb` imports under a public name is in `__all__`."""
    public = {name for name, value in vars(wxtcb).items() if name[0] != "_" and is_own(value)}
    assert public - set(wxtcb.__all__) == set()


def test_every_error_is_exported():
    """Each class of the error tree is exported at the top level, except the internal SendVetoed."""
    tree = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert tree - set(wxtcb.__all__) == {"SendVetoed"}


def test_documented_names_are_exported():
    """The names of the public contract are exported at the top level."""
    promised = """
        Session RetryPolicy Timeout endpoints raw Endpoint Repeat Secret WxtcbError ApiError TransportError
        OutcomeUnknown BadReply InvalidArgument TicketError TokenFetchLimit PartialFailure SessionClosed WrongLoop
    """
    assert set(promised.split()) - set(wxtcb.__all__) == set()


def test_package_is_typed():
    """`py.typed` is shipped, so that type checkers use the annotations."""
    assert (ROOT / "py.typed").exists()


def test_dir_lists_packages_that_are_loaded_on_first_access():
    """Completion in a shell finds them."""
    assert {"provision", "sandbox", "Session"} <= set(dir(wxtcb))


LOADED_EARLY = """
import sys, wxtcb.tokens
early = {"wxtcb.tokens.cache", "wxtcb.tokens.health", "sqlite3"} & {*sys.modules}
print(sorted(early), wxtcb.tokens.Health.__module__)
"""


def test_token_cache_is_loaded_when_a_session_opens():
    """`import wxtcb.tokens` loads neither the cache nor the file store nor the health check, but has their names."""
    completed = subprocess.run([sys.executable, "-c", LOADED_EARLY], capture_output=True, text=True, check=True)
    assert completed.stdout == "[] wxtcb.tokens.health\n"


def test_unknown_attribute_of_tokens_raises_attribute_error():
    """A misspelt name is an AttributeError."""
    with pytest.raises(AttributeError, match=r"'wxtcb.tokens' has no attribute 'Wealth'"):
        operator.attrgetter("tokens.Wealth")(wxtcb)


def test_package_can_be_run_as_a_module(measured):
    """``python -m wxtcb`` is the command line."""
    command = [sys.executable, "-m", "wxtcb", "--help"]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "provision" in completed.stdout
