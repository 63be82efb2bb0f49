"""The verdict on one case: what was raised, said or logged while a target worked on it."""

import gc
import io
import logging
import re
import resource
import sys
import threading
import time
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

import lm_deluge
from lm_deluge.errors import LMDelugeError

__all__ = ["SECRETS", "Verdict", "judged", "place_of"]

SECRETS = {
    "key": "sk-fuzz/Qm9+gateway-K3y_0123456789",
    "header": "hunter7pass.word!42",
    "cookie": "c00kie=Zx81-plus-3",
}
"""Credentials that requests of the targets carry, and that servers may repeat."""

_HOME = str(Path(lm_deluge.__file__).parent)
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})|\\+(?=/)")
_PERCENT = re.compile(r"%([0-9a-fA-F]{2})")
_MOST_SHOWN = 2_000


class Verdict(msgspec.Struct, kw_only=True):
    """What came of a case.

    Attributes:
        kind: ``"done"``, ``"refused"`` (an error of our tree); or what is wrong: ``"foreign"`` (another exception),
            ``"wrong"`` (a promise does not hold), ``"memory"``, ``"leak"`` (a credential was said), ``"hang"``,
            ``"crash"``.
        what: one line that is the same for all cases with one cause.
        details: a traceback, or what was said.
        seconds: how long it took.
    """

    kind: str
    what: str = ""
    details: str = ""
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        return self.kind not in ("done", "refused")


class _Ear(logging.Handler):
    """Hears log records, warnings, exceptions in threads, and those that nobody could raise."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[tuple[str, str]] = []
        self.lost: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = "" if error is None else "".join(traceback.format_exception(error))
        self.said.append(("log", f"{record.getMessage()} {record.args} {told}"))
        if error is not None and not isinstance(error, LMDelugeError):
            self.lost.append(error)

    def warn(self, message: Any, *_: Any, **__: Any) -> None:
        self.said.append(("warning", f"{message} {message!r}"))

    def lose(self, args: Any) -> None:
        if args.exc_value is not None:
            self.lost.append(args.exc_value)


@contextmanager
def _listening() -> Iterator[_Ear]:
    ear, out = _Ear(), io.StringIO()
    root = logging.getLogger()
    root.addHandler(ear)
    root.setLevel(logging.INFO)
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = threading.excepthook = ear.lose
    try:
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(out):
            warnings.simplefilter("always")
            warnings.showwarning = ear.warn
            yield ear
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        root.removeHandler(ear)
        ear.said.append(("output", out.getvalue()))


def judged(module: ModuleType, data: bytes, tmp: Path) -> Verdict:
    """Run a target on a case, in this process, with so much memory and no more."""
    began = time.monotonic()
    with _limited(getattr(module, "MEGABYTES", 400)), _listening() as ear:
        verdict = _run(module, data, tmp, ear)
    if not verdict.is_bad and ear.lost:
        verdict = _of_error(ear.lost[0])
    if not verdict.is_bad:
        verdict = next(filter(None, (_leak(where, text) for where, text in ear.said)), verdict)
    verdict.seconds = time.monotonic() - began
    return verdict


def _run(module: ModuleType, data: bytes, tmp: Path, ear: _Ear) -> Verdict:
    try:
        ear.said.append(("result", _shown(module.target(data, tmp))))
        return Verdict(kind="done")
    except MemoryError as error:
        gc.collect()
        return Verdict(
            kind="memory", what=f"MemoryError at {place_of(error)}", details=traceback.format_exc()[-_MOST_SHOWN:]
        )
    except LMDelugeError as error:
        ear.said.extend(_told(error))
        return Verdict(kind="refused", what=type(error).__name__)
    except BaseException as error:
        return _of_error(error)


def _of_error(error: BaseException) -> Verdict:
    details = "".join(traceback.format_exception(error))[-_MOST_SHOWN:]
    if isinstance(error, MemoryError):
        return Verdict(kind="memory", what=f"MemoryError at {place_of(error)}", details=details)
    if isinstance(error, AssertionError):
        return Verdict(kind="wrong", what=_first_line(error), details=details)
    return Verdict(kind="foreign", what=f"{type(error).__name__} at {place_of(error)}", details=details)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["an assertion failed"])[0][:120]


def place_of(error: BaseException) -> str:
    """The innermost line of the package that an exception came from; else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_HOME)] or frames
    return f"{ours[-1].filename.removeprefix(_HOME + '/')}:{ours[-1].lineno}" if ours else "?"


def _told(error: BaseException) -> Iterator[tuple[str, str]]:
    """All that an exception, and those behind it, show."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield "exception", f"{one} {one!r} {one.args} {vars(one)}"
        one = one.__cause__ or one.__context__


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return "\n".join(map(_shown, value))
    return value if isinstance(value, str) else repr(value)


def _leak(where: str, text: str) -> Verdict | None:
    plain = _undone(text)
    for name, secret in SECRETS.items():
        # What our own limit of length cuts off of it is as bad.
        for form in (secret, secret[: -len(secret) // 4] + "…"):
            if (found := plain.find(_undone(form))) >= 0:
                return Verdict(
                    kind="leak", what=f"the {name} is in the {where}", details=plain[max(found - 200, 0) : found + 200]
                )
    return None


def _undone(text: str) -> str:
    """Without what a reader undoes at a glance: escapes, percent signs, wide letters, capitals."""
    if "\\" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else "", text)
    if "%" in text:
        text = _PERCENT.sub(lambda found: chr(int(found[1], 16)), text)
    return (
        text if text.isascii() else unicodedata.normalize("NFKC", text.replace("…", "\ue000")).replace("\ue000", "…")
    ).lower()


@contextmanager
def _limited(megabytes: int) -> Iterator[None]:
    """Let this process take so much more memory than it has, on Linux."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
