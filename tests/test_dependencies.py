"""What the project says of the versions that it supports: bounds, lock, tox environments and pages agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parent.parent
PYPROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: Final = PYPROJECT["project"]
LOCK: Final = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# One group of lines for each package: `name==version ; marker \`, then its hashes
LOCKED: Final = re.findall(r"^(\S+)==(\S+)(.*(?:\n {4}--hash=.*)*)", LOCK, re.MULTILINE)


def requirements() -> list[Requirement]:
    """Return the requirements of the package, its extras and the dependency groups, without references to others."""
    lists = [
        PROJECT["dependencies"],
        *PROJECT["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    ]
    every = [Requirement(text) for texts in lists for text in texts if isinstance(text, str)]
    return [each for each in every if each.name != PROJECT["name"]]


def bound(name: str) -> str:
    """Return the lower bound of a dependency of the package."""
    (found,) = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == name]
    return str(found.specifier).removeprefix(">=")


def test_lock_satisfies_every_bound():
    """The lock contains each requirement of pyproject.toml, in versions that its bound admits."""
    versions: dict[str, list[str]] = {}
    for name, version, _ in LOCKED:
        versions.setdefault(name, []).append(version)
    for requirement in requirements():
        locked = versions[canonicalize_name(requirement.name)]
        assert all(map(requirement.specifier.contains, locked)), f"{requirement} but {locked}: tox run -e lock"


def test_every_requirement_has_a_lower_bound():
    """No requirement admits versions that were never tested."""
    assert [str(each) for each in requirements() if ">=" not in str(each.specifier)] == []


def test_every_locked_version_has_a_hash():
    """A file with other content than the locked one is rejected."""
    assert LOCKED
    assert [name for name, _, rest in LOCKED if "--hash=sha256:" not in rest] == []


def test_lock_names_no_registry():
    """The lock works with every package registry: it has no host and no option but hashes."""
    lines = [line for line in LOCK.splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in lines if "://" in line or re.search(r"(?<!\S)--(?!hash=)", line)] == []


def test_the_default_run_needs_only_a_package_registry():
    """The environments that take long or need an advisory service run only if they are named."""
    tox = PYPROJECT["tool"]["tox"]
    assert tox["env_list"] == ["py"]
    assert set(tox["env"]) == {"lowest", "lock", "audit"}


def test_pages_state_the_supported_versions():
    """README.md and CHANGELOG.md state the Python versions of the classifiers and the bound of aiohttp."""
    prefix = "Programming Language :: Python :: 3."
    minors = [int(each.removeprefix(prefix)) for each in PROJECT["classifiers"] if each.startswith(prefix)]
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    stated = f"Python 3.{minors[0]} to 3.{minors[-1]} and aiohttp {bound('aiohttp')} or newer"
    for page in ("README.md", "CHANGELOG.md"):
        assert stated in " ".join((ROOT / page).read_text(encoding="utf-8").split())
