"""Close the client and the cache under a run of 600 prompts, at random moments.

``python -m tests.stress.closing --each 20`` prints a table with a row for each thing that is closed. What had arrived
when closing began has to be in the file (``lost``, ``again``), and once the client's ``close`` has returned nothing
more may be asked (``extra``). The other columns are those of ``endings.py``. Ends with status 1 if anything is wrong.
"""

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import rounds
from .rounds import Plan, Result
from .spec import Round

__all__ = ["main", "play"]

WAYS = ("close client", "close cache", "close both")


def plan(way: str, name: str, *, prompts: int, seed: int, port: int, directory: Path) -> Plan:
    """A random round of a way; the same for the same seed and name."""
    pick = random.Random(f"{seed}/{name}")
    api = pick.choice(("iter", "async", "sync"))
    round = Round(
        name=name,
        path=str(directory / f"{name}.db"),
        marks=str(directory / f"{name.partition('r')[0]}.marks"),
        port=port,
        seed=pick.randrange(2**32),
        way=way,
        runner=pick.choice(("asyncio", "uvloop", "thread")),
        api=api,
        again=pick.choice(("same", "other", "ended")),
        single_flight=pick.random() < 0.5,
        prompts=prompts,
        concurrency=pick.choice((40, 225)),
        at=pick.randrange(prompts // 20, prompts * 9 // 10),
    )
    return Plan(way, round, accompanied=False)


def play(each: int, *, prompts: int = 600, seed: int = 0, lanes: int = 2, busy: int = 0) -> list[Result]:
    """Close each of them so many times."""

    def make(directory: Path, port: int) -> Mapping[str, list[Plan]]:
        return {
            letter: [
                plan(way, f"{letter}r{number}", prompts=prompts, seed=seed, port=port, directory=directory)
                for number in range(each)
            ]
            for letter, way in zip("abc", WAYS, strict=True)
        }

    return rounds.play(make, lanes=lanes, busy=busy)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.closing", description=__doc__.partition("\n")[0])
    parser.add_argument("--each", type=int, default=20, help="rounds for each thing that is closed")
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep cores busy")
    parser.add_argument("--lanes", type=int, default=2, help="rounds at once")
    given = parser.parse_args(arguments)
    results = play(given.each, prompts=given.prompts, seed=given.seed, lanes=given.lanes, busy=given.busy)
    print(rounds.summary(results, WAYS))
    return 1 if any(result.is_bad for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
