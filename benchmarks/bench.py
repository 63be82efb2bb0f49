"""What a row needs to measure: sizes, the server, fresh processes taking turns, and caches that are filled already."""

import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.server import Server
from benchmarks.workload import ROOT

__all__ = ["Bench", "Form"]

T = TypeVar("T")
Figures = dict[str, Any]


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
    """

    name: str
    repetitions: int
    slow_repetitions: int
    hits: int = 20_000
    stored: int = 20_000
    streamed: int = 100_000
    patience: float = 60.0


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
        shown = " ".join(f"{key}={value:,.4g}" for key, value in figures.items() if value is not None)
        self._say(f"{name} {task} {options.get('count', '')}: {shown}")
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
        self._say(f"bare transport {count}: rate={figures['rate']:,.0f}")
        return figures
