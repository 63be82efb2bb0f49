"""Interrupt runs at random moments, in five ways, and count what that costs.

``python -m tests.stress.interrupts --each 400 --busy 2`` prints a table with a row for each way, and ends with status
1 if anything is wrong. The ways: Ctrl-C once, twice and three times within a second under ``process_prompts_sync``;
once in a loop of the program's own, which may go on using it as a notebook does; SIGTERM for ``deluge run``. The
columns are those of ``endings.py``; for ``deluge run``, wrong are rows that the results file holds twice, torn, or not
at all after the same command was run again.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from . import driving, rounds
from .rounds import Plan, Result
from .spec import SECONDS, Round
from .watch import text_of

__all__ = ["WAYS", "main", "play"]

WAYS = ("sigint once", "sigint twice", "sigint 3 times", "own loop", "sigterm, deluge run")
_BATCH = 25


def plan(way: str, name: str, *, seed: int, port: int, directory: Path) -> Plan:
    """A random round of a way; the same for the same seed and name."""
    pick = random.Random(f"{seed}/{name}")
    own = way == "own loop"
    dies = pick.random() < 0.1
    concurrency = pick.choice((8, 40, 225))
    prompts = pick.choice((60, 150))
    lasts = 0.05 * prompts / min(concurrency, prompts) + 0.05  # about, on an idle machine
    round = Round(
        name=name,
        path=str(directory / f"{name}.db"),
        marks=str(directory / f"{name.partition('r')[0]}.marks"),
        port=port,
        seed=pick.randrange(2**32),
        way="sigint",
        runner=pick.choice(("own", "own uvloop")) if own else "asyncio",
        api=pick.choice(("iter", "async")) if own else "sync",
        again="ended" if dies else pick.choice(("same", "same", "other", "ended")),
        dies=dies,
        single_flight=pick.random() < 0.6,
        prompts=prompts,
        concurrency=concurrency,
        at=pick.choice((0, 1, pick.randrange(prompts))),
        after=pick.random() * lasts,
        signals={"sigint twice": 2, "sigint 3 times": 3}.get(way, 1),
        gap=pick.choice((0.01, 0.1, 0.45)),
    )
    return Plan(way, round, accompanied=False)


def play(each: int, *, seed: int, lanes: int, busy: int, ways: Sequence[str] = WAYS, only: str = "") -> list[Result]:
    """So many interrupts in each way."""

    def make(directory: Path, port: int) -> Mapping[str, list[Plan]]:
        batches: dict[str, list[Plan]] = {}
        for letter, way in zip("abcde", WAYS, strict=True):
            for number in range(each if way in ways and way != WAYS[-1] else 0):
                group = f"{letter}{number // _BATCH}"
                name = f"{group}r{number % _BATCH}"
                if not only or only in (name, group):
                    batches.setdefault(group, []).append(plan(way, name, seed=seed, port=port, directory=directory))
        return batches

    def further(directory: Path, port: int, log: driving.Journal) -> "list[asyncio.Task[list[Result]]]":
        names = [f"e{number}r0" for number in range(each if WAYS[-1] in ways else 0)]
        wanted = [name for name in names if not only or only == name]
        return [
            asyncio.create_task(_run_commands(wanted[lane::lanes], seed, directory, port, log)) for lane in range(lanes)
        ]

    return rounds.play(make, lanes=lanes, busy=busy, further=further)


async def _run_commands(names: list[str], seed: int, directory: Path, port: int, log: driving.Journal) -> list[Result]:
    return [await _Command(name, seed, directory, port).play(log) for name in names]


class _Command:
    """A ``deluge run`` that is told to end, and the same command again."""

    def __init__(self, name: str, seed: int, directory: Path, port: int) -> None:
        self._pick = random.Random(f"{seed}/{name}")
        self._name = name
        self._directory = directory
        self._port = port
        self._prompts = directory / f"{name}.jsonl"
        self._out = directory / f"{name}.out"
        self._marks = driving.Journal(directory / f"{name}.marks")
        self._count = self._pick.choice((60, 150))
        self._more = ["--single-flight"] * (self._pick.random() < 0.6)
        self._plan = Plan(
            WAYS[-1],
            Round(
                name=name,
                path=str(directory / f"{name}.db"),
                marks=str(self._marks.path),
                port=port,
                seed=0,
                way="sigterm cancels",
                runner="uvloop",
                api="iter",
                again="ended",
                single_flight=bool(self._more),
                prompts=self._count,
            ),
            accompanied=False,
        )

    async def play(self, log: driving.Journal) -> Result:
        result = Result(self._plan)
        began = time.monotonic()
        names = self._plan.round.names
        self._prompts.write_text("".join(msgspec.json.encode(text_of(name)).decode() + "\n" for name in names))
        first = await self._start("1")
        notes = self._marks.of
        moment = self._pick.choice(("start", "first", "middle", "middle", "middle"))
        while moment != "start" and not notes(self._name) and first.is_alive:
            await asyncio.sleep(0.002)
        await asyncio.sleep(self._pick.random() * {"start": 1.0, "first": 0.05, "middle": 0.4}[moment])
        first.send(signal.SIGTERM)
        code = await first.end(seconds=SECONDS)
        arrived = Counter[str]()
        for what, _, prompt, _ in notes(self._name):
            arrived[prompt] += {"arrived": 1, "torn": -1}.get(what, 0)
        result.leases = len(driving.leases(self._plan.round.path))
        result.hangs += code is None
        early = code == -signal.SIGTERM and not notes(self._name)  # before it had its handler
        late = code == -signal.SIGTERM and not self._wrong_rows()  # all is written, and the handler gone
        if code not in (0, 143, None) and not (early or late):
            result.wrong = f"exit status {code}"
        if "Traceback" in first.words():
            result.wrong = "a traceback"
        result.words = first.words() if result.wrong or result.hangs else ""
        second = await self._start("3")
        code = await second.end(seconds=SECONDS)
        result.hangs += code is None
        if code not in (0, None):
            result.wrong = result.wrong or f"exit status {code} of the second run"
            result.words += second.words()
        result.wrong = result.wrong or self._wrong_rows()
        asked = log.of(self._name)
        again = {prompt for what, phase, prompt, _ in asked if what == "asked" and phase == "3"}
        result.lost = result.again = len(again & set(+arrived))
        calls = Counter(prompt for what, _, prompt, _ in asked if what == "asked")
        once = Counter(prompt for what, phase, prompt, _ in asked if what == "asked" and phase == "1")
        result.extra = (calls - (Counter(names) + (once - +arrived))).total()
        result.seconds = time.monotonic() - began
        for path in self._directory.glob(f"{self._name}.*"):
            path.unlink()
        rounds.report(result)
        return result

    def _wrong_rows(self) -> str:
        try:
            rows = [msgspec.json.decode(line) for line in self._out.read_bytes().splitlines()]
        except (OSError, msgspec.DecodeError) as error:
            return f"results: {error}"
        seen = Counter(row["index"] for row in rows)
        return "" if seen == Counter(range(self._count)) else f"{len(seen)} of {self._count} rows, {seen.total()} lines"

    async def _start(self, phase: str) -> driving.Process:
        arguments = [str(self._marks.path), phase, str(self._pick.randrange(2**32)), "run", str(self._prompts)]
        arguments += ["-m", "gpt-4.1-mini", "-o", str(self._out), "--cache", self._plan.round.path, *self._more]
        arguments += ["--base-url", f"http://127.0.0.1:{self._port}/v1", "--progress", "none"]
        arguments += ["--max-requests-per-minute", "1000000", "--max-tokens-per-minute", "1000000000"]
        arguments += ["--max-concurrent-requests", str(self._pick.choice((8, 40)))]
        process = driving.Process(
            "-m", "tests.stress.told", *arguments, directory=self._directory, OPENAI_API_KEY="none"
        )
        await process.start()
        return process


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.interrupts", description=__doc__.partition("\n")[0])
    parser.add_argument("--each", type=int, default=400, help="interrupts in each way")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep cores busy")
    parser.add_argument("--lanes", type=int, default=2, help="rounds at once")
    parser.add_argument("--only", default="", help="a round or a batch to play again, by its name")
    parser.add_argument("--way", action="append", default=[], choices=WAYS)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    ways = given.way or WAYS
    results = play(given.each, seed=given.seed, lanes=given.lanes, busy=given.busy, ways=ways, only=given.only)
    print(rounds.summary(results, WAYS))
    print(f"seed {given.seed}, {given.busy} busy processes, {time.monotonic() - began:.0f} s")
    return 1 if any(result.is_bad for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
