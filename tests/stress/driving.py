"""What the drivers of stress programs share: servers, busy cores, other processes, and what their files say."""

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import lm_deluge
from lm_deluge.canonical import conversation_of

__all__ = ["Journal", "Note", "Process", "busy_cores", "entries", "environment", "leases", "server", "table"]

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """The environment of a child that imports the same package and these programs, and keeps nothing in a home."""
    package = str(Path(lm_deluge.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), package]), **more}


@contextmanager
def server(log: Path) -> Iterator[int]:
    """The port of a server in a process of its own, which writes to ``log``."""
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Processes that keep cores busy while the block lasts."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()


class Note(tuple[str, str, str, float]):
    """A line of a journal: what, phase, prompt, time."""

    __slots__ = ()


class Journal:
    """A file that other processes append lines to; what is new is read by round."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0
        self._rest = b""
        self._rounds: dict[str, list[Note]] = defaultdict(list)

    def of(self, round: str) -> list[Note]:
        """All lines about a round, in their order."""
        self._read()
        return self._rounds.get(round, [])

    def forget(self, round: str) -> None:
        self._rounds.pop(round, None)

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._at)
            data = self._rest + file.read()
            self._at = file.tell()
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            what, phase, prompt, at = line.decode().split()
            self._rounds[prompt.partition(":")[0]].append(Note((what, phase, prompt, float(at))))


class Process:
    """A child that is given lines and answers with lines; what it writes to its error output is kept in a file."""

    def __init__(self, *arguments: str, directory: Path, **environ: str) -> None:
        self._arguments = arguments
        self._environ = environ
        fd, name = tempfile.mkstemp(dir=directory, suffix=".err")
        self._error, self.said = fd, Path(name)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._error,
            env=environment(**self._environ),
            cwd=ROOT,
            limit=2**24,
        )
        os.close(self._error)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, line: bytes, *, seconds: float) -> bytes | None:
        """Give it a line and return its answer; None if it ended or did not answer in time."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
        except ConnectionError:
            return None
        return await self.read(seconds=seconds)

    async def read(self, *, seconds: float) -> bytes | None:
        """Its next line; None if it ended or wrote none in time."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                return (await self._process.stdout.readline()).strip() or None
        except TimeoutError:
            return None

    async def end(self, *, seconds: float) -> int | None:
        """Let it end by itself and return its exit code; None if it had to be killed."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.close()
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
            return None

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    def words(self) -> str:
        """What it has written to its error output."""
        return self.said.read_text(errors="replace")


def _rows(path: str, query: str) -> list[tuple[Any, ...]]:
    if not Path(path).exists():
        return []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # no table yet
            return []


def entries(path: str) -> int:
    """How many answers a cache file holds."""
    return int((_rows(path, "SELECT count(*) FROM entries") or [(0,)])[0][0])


def leases(path: str) -> set[bytes]:
    """The leases of a cache file."""
    return {key for (key,) in _rows(path, "SELECT key FROM leases")}


def without_notes(left: set[bytes], path: str) -> set[bytes]:
    """Leases that hold up others: not the notes that a prompt has failed, which run out by themselves.

    To be called when every prompt of the file has its entry, for the notes are known by their keys.
    """
    keys = {bytes(key) for (key,) in _rows(path, "SELECT key FROM entries")}
    keys |= {conversation_of(key) for key in keys}  # what a lookup by conversation leases
    return left - {hashlib.sha256(b"failed\n" + key).digest() for key in keys}


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under their titles, for a terminal."""
    cells = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    lines = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
