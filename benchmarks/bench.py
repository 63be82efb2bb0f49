"""What a row needs to measure: sizes, the server, fresh processes taking turns, and caches that are filled already."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import redis
from benchmarks.contenders import CONTENDERS, PEERS, SDKS, Contender
from benchmarks.server import Server
from benchmarks.workload import ROOT

__all__ = ["Bench", "Form"]

T = TypeVar("T")
Figures = dict[str, Any]

_IN_MEMORY = Path("/dev/shm")
_ROOM = 8 * 10**9


@dataclass(frozen=True)
class Form:
    """How much is measured.

    Attributes:
        name: for the report.
        repetitions: of quick measurements.
        slow_repetitions: of those that take the reference long.
        hits: prompts in the rows of hits.
        stored: prompts in the memory row.
        streamed: prompts in the stream.
        patience: seconds after which a run at default limits is given up.
        cached: entries in the rows of stores.
        cache_sizes: entries in the rows of growing caches.
        filling: seconds that a cache is filled for before it is given up.
        fan_out: prompts behind one prefix.
    """

    name: str
    repetitions: int
    slow_repetitions: int
    hits: int = 20_000
    stored: int = 20_000
    streamed: int = 100_000
    patience: float = 60.0
    cached: int = 2_000
    cache_sizes: tuple[int, ...] = (1_000, 10_000, 100_000)
    filling: float = 120.0
    fan_out: int = 1_319


class Bench:
    """One session of measurements, in a temporary directory."""

    def __init__(self, form: Form, server: Server, directory: Path, say: Callable[[str], None]) -> None:
        self.form = form
        self._server = server
        self._directory = directory
        self._say = say
        self._numbers = itertools.count()
        self._filled: dict[tuple[str, int], Path] = {}

    def in_turn(self, names: Iterable[str], repetitions: int, measure: Callable[[str], T]) -> dict[str, list[T]]:
        """Measure each contender, then each again, so that a busy moment of the machine does not strike one alone."""
        results: dict[str, list[T]] = {name: [] for name in names}
        for _ in range(repetitions):
            for name in results:
                results[name].append(measure(name))
        return results

    def new_cache(self) -> Path:
        """A path for a cache, in a directory of its own."""
        place = self._directory / f"{next(self._numbers)}"
        place.mkdir()
        return place / "cache.db"

    def filled(self, name: str, count: int) -> Path:
        """A cache in which a contender has stored ``count`` answers, in a run of its own."""
        if (name, count) not in self._filled:
            self.fill(name, count)
        return self._filled[name, count]

    def fill(self, name: str, count: int) -> Figures:
        """Store ``count`` answers in a new cache, and tell what that took: ``"disk"`` is bytes for an answer."""
        cache = self.new_cache()
        figures = self.work(name, "run", count=count, hits=False, cache=cache, warm=False)
        self._filled.setdefault((name, count), cache)
        beside_it = cache.parent.glob(f"{cache.name}*")
        return figures | {"disk": sum(file.stat().st_size for file in beside_it) / count}

    def work(self, name: str, task: str, *, cache: Path, default_limits: bool = False, **options: Any) -> Figures:
        """Have a contender do a task of ``benchmarks.worker`` in a fresh process."""
        contender = CONTENDERS[name]
        given = {"base_url": self._server.base_url, "cache": str(cache), "default_limits": default_limits, **options}
        with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".json") as result:
            self.call(contender, ["-m", "benchmarks.worker", name, task, json.dumps(given), result.name])
            figures: Figures = json.loads(Path(result.name).read_bytes())
        self.say(f"{name} {task} {options.get('count', '')}", figures)
        return figures

    def cache_work(self, name: str, task: str, *, store: str, on_disk: bool = True, **options: Any) -> Figures:
        """Have a library do a task of ``benchmarks.cache_worker``: ``"disk"`` is what its cache takes afterwards.

        Without ``on_disk`` the files are in memory where there is room for them, so that filling them takes less time.
        """
        directory = self._directory if on_disk or not _files_in_memory() else _IN_MEMORY
        with contextlib.ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
            url = stack.enter_context(redis.running(place)) if store == "redis" else None
            given = {"base_url": self._server.base_url, "store": store, "place": str(place / "cache"), "redis_url": url}
            result = stack.enter_context(tempfile.NamedTemporaryFile(dir=self._directory, suffix=".json"))
            arguments = [name, task, json.dumps(given | options), result.name]
            self.call((CONTENDERS | PEERS)[name], ["-m", "benchmarks.cache_worker", *arguments])
            figures: Figures = json.loads(Path(result.name).read_bytes())
            disk = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        self.say(f"{name} {store} {task}", figures)
        return figures | {"disk": disk}

    def fan_out_work(self, library: str, **options: Any) -> Figures:
        """Have a library do the task of ``benchmarks.fan_out_worker``, on a server that is in the options."""
        with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".json") as result:
            arguments = [library, json.dumps(options), result.name]
            self.call((CONTENDERS | SDKS)[library], ["-m", "benchmarks.fan_out_worker", *arguments])
            figures: Figures = json.loads(Path(result.name).read_bytes())
        return figures

    def call(self, contender: Contender, arguments: Sequence[str]) -> None:
        """Run a contender's interpreter."""
        done = subprocess.run(
            [contender.interpreter(), *arguments],
            cwd=ROOT,
            env=contender.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{contender.name} failed:\n{done.stdout[-4000:]}")

    def bare_transport(self, count: int, concurrency: int) -> Figures:
        """The HTTP client alone, sending the same requests from a loop that does nothing else."""
        with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".json") as result:
            url = f"{self._server.base_url}/chat/completions"
            arguments = [url, str(count), str(concurrency), result.name]
            self.call(CONTENDERS["ours"], ["-m", "benchmarks.bare_transport", *arguments])
            figures: Figures = json.loads(Path(result.name).read_bytes())
        self.say(f"bare transport {count}", figures)
        return figures

    def say(self, what: str, figures: Figures) -> None:
        """Tell whoever waits what was measured just now."""
        self._say(f"{what}: {_shown(figures)}")


def _shown(figures: Figures) -> str:
    return " ".join(
        f"{key}={value:,.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in figures.items()
        if value is not None
    )


def _files_in_memory() -> bool:
    return _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM
