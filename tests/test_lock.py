"""What ``make`` installs is locked: each package at one version, with hashes, from nowhere in particular."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted((ROOT / "requirements").glob("*.txt")) + sorted((ROOT / "benchmarks" / "requirements").glob("*.txt"))

DEPENDENCIES = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
GROUPS = PROJECT["dependency-groups"]


def locked(path: Path) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line)
        found.append((Requirement(requirement), hashes))
    return found


def asked(names: list[str]) -> list[Requirement]:
    """What requirements ask for, with this package's own extras spelt out."""
    found = []
    for requirement in map(Requirement, names):
        if canonicalize_name(requirement.name) == "lm-deluge":
            found += asked([name for extra in requirement.extras for name in EXTRAS[extra]])
        else:
            found.append(requirement)
    return found


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_a_lock_names_versions_and_hashes_and_no_place(path: Path) -> None:
    assert not re.search(r"://|--(index|extra-index|find-links|trusted)", path.read_text())
    for requirement, hashes in locked(path):
        assert [each.operator for each in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize(
    ("lock", "names"),
    [
        ("build", PROJECT["build-system"]["requires"] + GROUPS["build"]),
        ("demo", DEPENDENCIES + EXTRAS["server"]),
        ("dev", DEPENDENCIES + EXTRAS["dev"]),
        ("dist", GROUPS["dist"]),
        ("lock", GROUPS["lock"]),
    ],
)
def test_the_lock_has_what_the_project_asks_for(lock: str, names: list[str]) -> None:
    versions: dict[str, list[str]] = {}
    for requirement, _ in locked(ROOT / "requirements" / f"{lock}.txt"):
        (pin,) = requirement.specifier
        versions.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    for requirement in asked(names):
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"{requirement} is not in the lock: make lock UPGRADE="
        assert all(requirement.specifier.contains(version) for version in found), f"{requirement}: make lock"
