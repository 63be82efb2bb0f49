"""The command line as users run it: a process, with files, pipes and signals."""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import lm_deluge
from lm_deluge.cli import main
from lm_deluge.testing import Emulator

from ..cache.redis_server import RedisServer
from .stores import Place

PACKAGE = str(Path(lm_deluge.__file__).parents[1])  # the same package as in the tests, in any directory

FAST = ("--max-requests-per-minute", "1000000", "--max-tokens-per-minute", "1000000000", "--progress", "manual")


class Deluge:
    """Runs ``deluge`` in a directory, against the emulator that the environment points at."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        process = subprocess.Popen(
            [sys.executable, "-m", "lm_deluge", *arguments],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": PACKAGE, "COLUMNS": "100", "PYTHONWARNINGS": "default"},
            text=True,
            start_new_session=True,
            **options,
        )
        self._processes.append(process)
        return process

    def __call__(self, *arguments: str, input: str | None = None) -> "subprocess.CompletedProcess[str]":
        given = {} if input is None else {"stdin": subprocess.PIPE}
        process = self.start(*arguments, **given)
        out, err = process.communicate(input, timeout=60)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run(self, *arguments: str, input: str | None = None) -> "subprocess.CompletedProcess[str]":
        """``deluge run`` with limits out of the way."""
        return self("run", *arguments, "-m", "gpt-4.1-mini", *FAST, input=input)

    def inside(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """The same as ``run`` within this process, which is quicker; results have to go to a file."""
        return self.command("run", *arguments, "-m", "gpt-4.1-mini", *FAST)

    def cache(self, *arguments: object, columns: int = 100) -> "subprocess.CompletedProcess[str]":
        """``deluge cache`` within this process."""
        return self.command("cache", *map(str, arguments), columns=columns)

    def command(self, *arguments: str, columns: int | None = None) -> "subprocess.CompletedProcess[str]":
        """A command within this process."""
        with self._monkeypatch.context() as patched:
            patched.chdir(self.directory)
            patched.setattr(sys, "argv", ["deluge", *arguments])
            if columns is not None:
                patched.setenv("COLUMNS", str(columns))
            patched.setattr(warnings, "formatwarning", warnings.formatwarning)
            self._capsys.readouterr()
            with pytest.raises(SystemExit) as exited:
                main()
        code = exited.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code, *self._capsys.readouterr())

    def end(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            process.communicate()


@pytest.fixture
def deluge(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Deluge]:
    runner = Deluge(tmp_path, monkeypatch, capsys)
    yield runner
    runner.end()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "leveldb", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A cache of each kind, with nothing in it."""
    if request.param != "redis":
        return Place(request.param, tmp_path)
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:
        client.flushall()
    return Place("redis", tmp_path, server.url)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """An SQLite file."""
    return Place("sqlite", tmp_path)


@pytest.fixture
def write_prompts(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: Any, name: str = "prompts.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of results, in the order of their index."""
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["index"])
