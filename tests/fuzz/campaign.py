"""Fuzzing a target for a while: Hypothesis makes cases, a box runs them, findings are kept once for each cause."""

import hashlib
import time
from contextlib import suppress
from pathlib import Path

import hypothesis
import msgspec
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from . import targets
from .box import Box
from .judge import Verdict
from .known import why

__all__ = ["Finding", "Result", "explore"]

_ROUND = 250
_TRIES = 200
_SHRINKING = 15.0
"""Seconds, at most, for making one finding small."""
_CHEAP = ("foreign", "wrong", "leak")


class Finding(msgspec.Struct, kw_only=True):
    """One cause.

    Attributes:
        verdict: what is wrong.
        data: the smallest input so far that shows it.
        times: how many cases have shown it.
        path: where the input was written.
        known: why it is open, if it is known.
    """

    verdict: Verdict
    data: bytes
    times: int = 1
    path: Path | None = None
    known: str | None = None


class Result(msgspec.Struct, kw_only=True):
    """What came of fuzzing a target."""

    name: str
    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: dict[str, Finding] = {}

    def count(self, *kinds: str) -> int:
        """How many causes of these kinds were found."""
        return sum(finding.verdict.kind in kinds for finding in self.findings.values())


class _Found(Exception):
    """A case that is bad, for Hypothesis to shrink."""


def explore(
    name: str,
    box: Box,
    *,
    number: int,
    seconds: float | None = None,
    cases: int | None = None,
    folder: Path | None = None,
) -> Result:
    """Run cases of a target.

    Args:
        name: the target.
        box: where they run.
        number: the seed: the same number makes the same cases.
        seconds: how long, at most, without what is spent on making findings small.
        cases: how many, at most.
        folder: where inputs of findings are written.
    """
    result = Result(name=name)
    strategy = targets.load(name).cases()
    began = time.monotonic()
    while (seconds is None or result.seconds < seconds) and (cases is None or result.cases < cases):
        _round(_Look(result, box, end=None if seconds is None else began + seconds, cases=cases), strategy, number)
        result.seconds = time.monotonic() - began
        number += 1
    for finding in result.findings.values():
        finding.known = why(name, finding.verdict)
        finding.data = _smaller(finding, box, name)
        if folder is not None:
            finding.path = _written(folder / name, finding)
    return result


class _Look:
    """One round: what Hypothesis calls with each case. It raises for the first new finding, and while that shrinks."""

    def __init__(self, result: Result, box: Box, *, end: float | None, cases: int | None) -> None:
        self._result = result
        self._box = box
        self._end = end
        self._cases = cases
        self._cause: str | None = None
        self._tries = 0

    def __call__(self, data: bytes) -> None:
        if self._cause is None:
            if self._is_over():
                return
            self._result.cases += 1
        else:
            self._tries += 1
            if self._tries > _TRIES or time.monotonic() > self._until:
                return
        verdict = self._box.run(self._result.name, data)
        self._result.refused += verdict.kind == "refused" and self._cause is None
        cause = f"{verdict.kind}: {verdict.what}"
        if not verdict.is_bad:
            return
        is_new = _keep(self._result, cause, verdict, data)
        if self._cause == cause or (self._cause is None and is_new and _is_worth_shrinking(self._result.name, verdict)):
            if self._cause is None:
                self._cause, self._until = cause, time.monotonic() + _SHRINKING
            raise _Found

    def _is_over(self) -> bool:
        return (self._end is not None and time.monotonic() >= self._end) or self._result.cases == self._cases


def _round(look: _Look, strategy: hypothesis.strategies.SearchStrategy[bytes], number: int) -> None:
    def one(data: bytes) -> None:
        look(data)

    quiet = settings(
        max_examples=_ROUND,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
        print_blob=False,
    )
    with suppress(_Found, hypothesis.errors.HypothesisException):
        seed(number)(quiet(given(strategy)(one)))()


def _keep(result: Result, cause: str, verdict: Verdict, data: bytes) -> bool:
    """Note a finding, and its input where that is the smallest so far. Returns whether it is new."""
    known = result.findings.get(cause)
    if known is None:
        result.findings[cause] = Finding(verdict=verdict, data=data)
        return True
    known.times += 1
    if len(data) < len(known.data):
        known.verdict, known.data = verdict, data
    return False


def _is_worth_shrinking(name: str, verdict: Verdict) -> bool:
    return verdict.kind in _CHEAP and why(name, verdict) is None


def _smaller(finding: Finding, box: Box, name: str) -> bytes:
    """The input without all that can be left out of it, by halves; within so many tries and seconds."""
    data = finding.data
    if not _is_worth_shrinking(name, finding.verdict):
        return data
    tries, end = _TRIES, time.monotonic() + _SHRINKING
    size = len(data) // 2
    while size and tries > 0 and time.monotonic() < end:
        at = 0
        while at < len(data) and tries > 0 and time.monotonic() < end:
            shorter = data[:at] + data[at + size :]
            tries -= 1
            verdict = box.run(name, shorter)
            if (verdict.kind, verdict.what) == (finding.verdict.kind, finding.verdict.what):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _written(folder: Path, finding: Finding) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.verdict.kind}-{hashlib.sha256(finding.data).hexdigest()[:12]}"
    path.write_bytes(finding.data)
    return path
