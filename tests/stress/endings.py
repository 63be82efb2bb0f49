"""Leave runs in every way, then run the same prompts again, and count what that costs.

``python -m tests.stress.endings --rounds 2000 --busy 2`` prints a table with a row for each way, and ends with status 1
if anything is wrong:

hangs        a round, or the end of its process, took more than 60 seconds
lost         answers that had arrived and are not in the cache file afterwards
again        answers that had arrived and were bought once more
leases       rows in the file's table of leases when the run was over; that a process died by a signal excuses them
extra        calls beyond one for each prompt and one for each that was in flight at the ending
wrong        responses of a later run that are errors, false, or not exactly one for each prompt, in order; crashes

What "arrived" means is in ``watch.py``. Rounds are random and follow from ``--seed`` and their names; ``--only NAME``
plays one again, ``--only BATCH`` those that shared a process.
"""

import argparse
import random
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from . import rounds
from .rounds import Plan, Result
from .spec import Round

__all__ = ["WAYS", "main", "play"]

_LOOPS = ("asyncio", "uvloop", "own", "own uvloop", "thread")
_ANY = ("iter", "async", "sync")


class Way(msgspec.Struct, frozen=True):
    """A way to leave a run: with which calls, in which loops, and whether the process may or must end with it."""

    name: str
    apis: Sequence[str] = ("iter", "async")
    runners: Sequence[str] = _LOOPS
    dies: str = "never"
    signals: int = 1


WAYS = (
    Way("break", ("iter",)),
    Way("aclose", ("iter",)),
    Way("body", ("iter",), dies="maybe"),
    Way("exit", ("iter",), dies="maybe"),
    Way("cancel"),
    Way("cancel and go"),
    Way("timeout"),
    Way("prompts", _ANY, (*_LOOPS, "nested")),
    Way("listener", _ANY, (*_LOOPS, "nested")),
    Way("listener exits", _ANY, (*_LOOPS, "nested"), dies="maybe"),
    Way("listener ends", _ANY, (*_LOOPS, "nested"), dies="maybe"),
    Way("sigint", _ANY, ("asyncio", "uvloop", "nested"), dies="maybe"),
    Way("sigint, own loop", runners=("own", "own uvloop"), dies="maybe"),
    Way("sigint twice", _ANY, ("asyncio", "uvloop", "nested", "own", "own uvloop"), signals=2, dies="maybe"),
    Way("sigint 3 times", _ANY, ("asyncio", "uvloop", "nested", "own", "own uvloop"), signals=3, dies="maybe"),
    Way("sigterm", _ANY, ("asyncio", "uvloop", "own"), dies="always"),
    Way("sigterm exits", _ANY, ("asyncio", "uvloop", "own", "own uvloop"), dies="maybe"),
    Way("sigterm cancels", runners=("asyncio", "uvloop")),
    Way("loop closed", runners=("own", "own uvloop")),
    Way("close client", _ANY, (*_LOOPS, "nested")),
    Way("close cache", _ANY, (*_LOOPS, "nested")),
    Way("close both", _ANY, (*_LOOPS, "nested")),
    Way("main ends", _ANY, ("asyncio", "uvloop"), dies="always"),
    Way("main ends, daemon", _ANY, ("asyncio", "uvloop"), dies="always"),
)


def plan(way: Way, name: str, *, seed: int, port: int, directory: Path, short: bool = False) -> Plan:
    """A random round of a way; the same for the same seed and name. A short one has few prompts."""
    pick = random.Random(f"{seed}/{name}")
    api = pick.choice(way.apis)
    runners = [
        runner
        for runner in way.runners
        if (api == "sync" and not runner.startswith("own")) or (api != "sync" and runner != "nested")
    ]
    dies = way.dies == "always" or (way.dies == "maybe" and pick.random() < 0.15)
    single_flight = pick.random() < 0.7
    prompts = 20 if short else pick.choice((20, 60, 60, 150))
    threads = 1 if way.name.startswith(("close", "main")) or pick.random() < 0.8 else 3
    round = Round(
        name=name,
        path=str(directory / f"{name}.db"),
        marks=str(directory / f"{name.partition('r')[0]}.marks"),
        port=port,
        seed=pick.randrange(2**32),
        way=way.name.partition(",")[0].replace(" twice", "").replace(" 3 times", "")
        if way.name.startswith("sigint")
        else way.name,
        runner=pick.choice(runners),
        api=api,
        again="ended" if dies else pick.choice(("same", "same", "other", "ended")),
        dies=dies,
        single_flight=single_flight,
        warm=pick.random() < 0.15,
        threads=threads,
        fresh=pick.random() < 0.3,
        prompts=prompts,
        each=2 if single_flight and pick.random() < 0.2 else 1,
        concurrency=pick.choice((8, 40, 225)),
        at=pick.choice((1, 1, pick.randrange(1, prompts), pick.randrange(1, prompts))),
        after=pick.choice((0.0, pick.random() * 0.05)),
        signals=way.signals,
        gap=pick.choice((0.02, 0.3, 0.9)),
    )
    return Plan(way.name, round, accompanied=pick.random() < 0.2)


def play(
    count: int,
    *,
    seed: int,
    lanes: int = 2,
    batch: int = 24,
    only: str = "",
    ways: Sequence[str] = (),
    busy: int = 0,
    short: bool = False,
) -> list[Result]:
    """Play so many rounds, spread evenly over the ways."""
    chosen = [way for way in WAYS if not ways or way.name in ways]
    order = random.Random(seed)
    turns = [way for _ in range(-(-count // len(chosen))) for way in order.sample(chosen, len(chosen))][:count]

    def make(directory: Path, port: int) -> Mapping[str, list[Plan]]:
        batches: dict[str, list[Plan]] = defaultdict(list)
        for number, way in enumerate(turns):
            group, name = f"b{number // batch}", f"b{number // batch}r{number % batch}"
            if not only or only in (name, group):
                batches[group].append(plan(way, name, seed=seed, port=port, directory=directory, short=short))
        return batches

    return rounds.play(make, lanes=lanes, busy=busy)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.endings", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep cores busy")
    parser.add_argument("--lanes", type=int, default=2, help="rounds at once")
    parser.add_argument("--batch", type=int, default=24, help="rounds that share a process")
    parser.add_argument("--only", default="", help="a round or a batch to play again, by its name")
    parser.add_argument("--way", action="append", default=[], choices=[way.name for way in WAYS])
    given = parser.parse_args(arguments)
    began = time.monotonic()
    results = play(
        given.rounds,
        seed=given.seed,
        lanes=given.lanes,
        batch=given.batch,
        only=given.only,
        ways=given.way,
        busy=given.busy,
    )
    print(rounds.summary(results, [way.name for way in WAYS]))
    print(f"seed {given.seed}, {given.busy} busy processes, {time.monotonic() - began:.0f} s")
    return 1 if any(result.is_bad for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
