"""A worker as its parent sees it: it is given cases, and started anew when one has cost it its life."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

import msgspec

from . import targets
from .judge import Verdict

__all__ = ["Box"]

_AT_MOST = 3_000
"""Cases after which a worker is replaced, so that what one case leaves behind is not charged to a much later one."""
_GRACE = 5.0
_FRAME = re.compile(r'File "([^"]*lm_deluge/([^"]+))", line (\d+)')


class Box:
    """Runs cases in a process of its own, one at a time. To be closed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._folder = ""
        self._done = 0
        self._loaded: set[str] = set()

    def run(self, name: str, data: bytes) -> Verdict:
        """The verdict on a case. One that takes too long is given a second chance, for the machine may be busy."""
        module = targets.load(name)
        seconds = getattr(module, "SECONDS", 10.0)
        verdict = self._once(name, data, seconds)
        return self._once(name, data, 2 * seconds) if verdict.kind == "hang" else verdict

    def _once(self, name: str, data: bytes, seconds: float) -> Verdict:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        began = time.monotonic()
        line = b""
        try:
            if name not in self._loaded:  # what it takes to start is not the case's
                _send(process.stdin, name, None)
                if process.stdout.readline() != b"ready\n":
                    return self._died(process, 0.0)
                self._loaded.add(name)
            began = time.monotonic()
            _send(process.stdin, name, data)
            if not select.select([process.stdout], [], [], seconds)[0]:
                return self._hung(process, time.monotonic() - began)
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not line.endswith(b"\n"):
            return self._died(process, time.monotonic() - began)
        verdict = msgspec.json.decode(line, type=Verdict)
        self._done += 1
        if verdict.kind == "memory" or self._done >= _AT_MOST:
            self.close()
        return verdict

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._folder = tempfile.mkdtemp(prefix="fuzz-")
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", f"{__package__}.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=-1,
                start_new_session=True,
                env={
                    **_environment(),
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    "MALLOC_ARENA_MAX": "1",
                    "TMPDIR": self._folder,
                },
            )
            self._done, self._loaded = 0, set()
        return self._process

    def _hung(self, process: subprocess.Popen[bytes], seconds: float) -> Verdict:
        process.send_signal(signal.SIGABRT)  # has faulthandler write where all threads are
        _end(process)
        said = self._said()
        self.close()
        main = said.partition("Current thread")[2] or said
        return Verdict(kind="hang", what=f"not over at {_innermost(main)}", details=said, seconds=seconds)

    def _died(self, process: subprocess.Popen[bytes], seconds: float) -> Verdict:
        code = _end(process)
        said = self._said()
        self.close()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return Verdict(kind="crash", what=f"{name} at {_innermost(said)}", details=said, seconds=seconds)

    def _said(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        return self._errors.read(200_000).decode("utf-8", "replace")[-4_000:]

    def close(self) -> None:
        if self._process is None or self._errors is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # it died with our words unread
                    stream.close()
        _end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._errors.close()
        self._process = self._errors = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _send(stream: IO[bytes], name: str, data: bytes | None) -> None:
    stream.write(b"%s %d\n" % (name.encode(), -1 if data is None else len(data)) + (data or b""))
    stream.flush()


def _environment() -> dict[str, str]:
    """Nothing that is set outside changes a verdict."""
    unwanted = ("_API_KEY", "_BASE_URL", "_PROXY", "LM_DELUGE_CACHE_MODE")
    return {name: value for name, value in os.environ.items() if not name.upper().endswith(unwanted)}


def _end(process: subprocess.Popen[bytes]) -> int:
    """End the worker and what it has started; its exit code."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _innermost(said: str) -> str:
    found = _FRAME.search(said)
    return f"{found[2]}:{found[3]}" if found else "an unknown place"
