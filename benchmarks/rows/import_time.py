"""How long the import takes: a process that imports, less one that does nothing; the best of many, files warm."""

import subprocess
import time

from benchmarks.bench import Bench
from benchmarks.contenders import CONTENDERS
from benchmarks.figures import SECONDS, Line, Sample
from benchmarks.workload import ROOT

TARGET = 0.12


def measure(bench: Bench) -> list[Line]:
    statements = {
        "import": "import {module}",
        "from": "from {module} import {entry}",
    }
    best: dict[tuple[str, str], float] = {}
    for _ in range(4 * bench.form.repetitions):
        for name in CONTENDERS:
            empty = _seconds(name, "pass")
            best["empty", name] = min(empty, best.get(("empty", name), empty))
            for kind, statement in statements.items():
                contender = CONTENDERS[name]
                taken = _seconds(name, statement.format(module=contender.module, entry=contender.entry))
                best[kind, name] = min(taken, best.get((kind, name), taken))
    lines = []
    for kind, work in (("import", "`import lm_deluge`"), ("from", "`from lm_deluge import LLMClient`")):
        samples = {name: Sample([max(best[kind, name] - best["empty", name], 0.0001)]) for name in CONTENDERS}
        lines.append(Line(work, SECONDS, samples, "under 0.12 s", samples["ours"].median < TARGET))
    return lines


def _seconds(name: str, statement: str) -> float:
    contender = CONTENDERS[name]
    command = [str(contender.interpreter()), "-c", statement]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=contender.environment(), capture_output=True, check=True)
    return time.perf_counter() - start
