"""A few seconds of ``python -m tests.fuzz``, always with the same cases, and what it has found before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import targets
from .box import Box
from .campaign import explore
from .known import why

REGRESSIONS = Path(__file__).with_name("regressions")
FOUND = sorted(path.relative_to(REGRESSIONS) for path in REGRESSIONS.rglob("*") if path.is_file())
SLOW = ("rows", "sqlite", "leveldb", "redis")

_TARGET = """
import logging, os, re, signal, threading
import lm_deluge.errors
from tests.fuzz.judge import SECRETS

SECONDS = 0.5


def target(data, tmp):
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with Box() as box:
        yield box


def needed(name: str) -> None:
    missing = getattr(targets.load(name), "missing", lambda: None)()
    if missing is not None:
        pytest.skip(missing)


@pytest.mark.parametrize("found", FOUND, ids=str)
def test_what_was_found_before_is_right(box: Box, found: Path) -> None:
    """Files below ``regressions``, each in the folder of its target."""
    name = found.parts[0]
    needed(name)
    verdict = box.run(name, (REGRESSIONS / found).read_bytes())
    if verdict.is_bad and (reason := why(name, verdict)):
        pytest.xfail(reason)
    assert not verdict.is_bad, f"{verdict.kind}: {verdict.what}\n{verdict.details}"


@pytest.mark.parametrize("name", targets.NAMES)
def test_a_while_finds_nothing(box: Box, name: str) -> None:
    needed(name)
    result = explore(name, box, number=1, cases=6 if name in SLOW else 30)
    new = {cause: finding.data for cause, finding in result.findings.items() if finding.known is None}
    assert not new, f"repeat it with: python -m tests.fuzz --only {name}"
    assert result.cases


@pytest.mark.long
@pytest.mark.parametrize("name", targets.NAMES)
def test_minutes_find_nothing(box: Box, name: str) -> None:
    needed(name)
    result = explore(name, box, number=1, seconds=300)
    new = {cause: finding.data for cause, finding in result.findings.items() if finding.known is None}
    assert not new, f"repeat it with: python -m tests.fuzz --only {name}"


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        ("done", "return [data]"),
        ("refused", "raise lm_deluge.errors.CacheError('no')"),
        ("foreign", "raise KeyError('x')"),
        ("wrong", "assert not data, 'a promise'"),
        ("memory", "return [bytearray(900_000_000)]"),
        ("leak", "logging.getLogger('x').warning('key: ' + SECRETS['key'].upper().replace('/', chr(92) + '/'))"),
        ("hang", "threading.Event().wait()"),
        ("hang", "re.match('(a|a)*b', 'a' * 60)"),
        ("crash", "os.kill(os.getpid(), signal.SIGSEGV)"),
    ],
)
def test_the_verdicts_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, case: str) -> None:
    """Each in a box of its own, with a target that is written here."""
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / f"{kind}.py").write_text(_TARGET + f"    {case}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Box() as box:
        assert box.run(f"made_up.{kind}", b"x").kind == kind
