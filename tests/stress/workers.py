"""End the client's workers in every way that a user's code can, and see who still gets what.

``python -m tests.stress.workers`` raises ``SystemExit``, ``CancelledError``, ``KeyboardInterrupt``, ``GeneratorExit``,
a panic and others out of a listener, a transport, a mapping and an object that caches; then the same prompts run again
in the same process, which has to end by itself. Right is: the first run gives exactly one response for each prompt or
raises what was raised; the second gives right answers and buys no more than the one that was hit; no lease is left.
Besides: a thread that runs cached prompts while the main thread ends pays for nothing; user work that fills the loop's
executor holds up nobody; a process that is killed in its first second has stored what had arrived a moment before.
Ends with status 1 if anything is wrong.
"""

import argparse
import asyncio
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from . import driving
from .spec import SECONDS
from .worker_child import Case, Outcome

__all__ = ["Judged", "cases", "main", "play"]

_RAISED = ("ValueError", "SystemExit", "CancelledError", "KeyboardInterrupt", "GeneratorExit", "Panic", "StopIteration")
_MAY_COME_OUT = {"SystemExit", "KeyboardInterrupt", "GeneratorExit", "Panic"}
_CACHES = {"listener": ("sqlite", "memory"), "send": ("sqlite",), "sent": ("sqlite",)}
_MOMENT = 0.3  # seconds in which an answer that has arrived is stored, on a busy machine


class Judged(msgspec.Struct):
    """A case and what is wrong with it."""

    case: Case
    hangs: bool = False
    wrong: str = ""
    again: int = 0
    leases: int = 0
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        return bool(self.hangs or self.wrong or self.again or self.leases)


def cases(port: int, directory: Path, *, kills: int = 10) -> Iterator[Case]:
    """All of them."""
    paths = (str(directory / f"{number}.db") for number in itertools.count())
    for place in ("listener", "send", "sent", "put", "get"):
        for raised, cache, shared in itertools.product(
            _RAISED, _CACHES.get(place, ("mapping", "object")), (False, True)
        ):
            yield Case(place=place, path=next(paths), port=port, raises=raised, cache=cache, single_flight=shared)
    for shared in (False, True):
        yield Case(place="main thread ends", path=next(paths), port=port, prompts=2000, single_flight=shared)
        yield Case(place="executor full", path=next(paths), port=port, prompts=20, single_flight=shared)
    for _ in range(kills):
        yield Case(place="first second", path=next(paths), port=port, prompts=400)


async def judge(case: Case, directory: Path, pick: random.Random) -> Judged:
    """Play a case in a process of its own."""
    judged = Judged(case)
    began = time.monotonic()
    argument = msgspec.json.encode(case).decode()
    child = driving.Process("-m", "tests.stress.worker_child", argument, directory=directory)
    await child.start()
    marks = driving.Journal(Path(case.path + ".marks"))
    if case.place == "first second":
        while child.is_alive and not marks.of("w"):
            await asyncio.sleep(0.002)
        await asyncio.sleep(pick.random())
        killed = time.monotonic()
        child.kill()
        await child.end(seconds=5)
        arrived = {name for what, _, name, at in marks.of("w") if what == "arrived" and at < killed - _MOMENT}
        judged.again = max(0, len(arrived) - driving.entries(case.path))
        judged.wrong = f"{judged.again} of {len(arrived)} that had arrived are lost" if judged.again else ""
        judged.seconds = time.monotonic() - began
        return judged
    line = await child.read(seconds=SECONDS + 15)
    code = await child.end(seconds=SECONDS + 15 if line else 1)
    judged.seconds = time.monotonic() - began
    if line is None or code is None or code == 1:
        judged.hangs = True
        judged.wrong = child.words()[-3000:]
        return judged
    judged.wrong = _what_is_wrong(case, msgspec.json.decode(line, type=Outcome), code)
    judged.leases = len(driving.leases(case.path))
    return judged


def _what_is_wrong(case: Case, outcome: Outcome, code: int) -> str:
    if code:
        return f"exit status {code}"
    if outcome.wrong:
        return outcome.wrong
    if not case.raises:
        bought = outcome.calls if case.place == "main thread ends" else outcome.calls - case.prompts
        return f"{bought} calls too many" if bought else ""
    if outcome.raised and not (outcome.raised == case.raises and case.raises in _MAY_COME_OUT):
        return f"the run raised {outcome.raised}"
    if not outcome.raised and outcome.responses != case.prompts:
        return f"{outcome.responses} responses for {case.prompts} prompts"
    # A run that raises leaves calls in flight. One that does not has bought all but what was hit.
    if not outcome.raised and outcome.calls > 1:
        return f"{outcome.calls} bought again"
    return ""


def play(chosen: Sequence[str] = (), *, lanes: int = 2, busy: int = 0, seed: int = 0, kills: int = 10) -> list[Judged]:
    """All cases whose title holds one of the words, or all."""
    with (
        tempfile.TemporaryDirectory(prefix="workers-") as name,
        driving.busy_cores(busy),
        driving.server(Path(name) / "server.log") as port,
    ):
        directory = Path(name)
        wanted = [
            case
            for case in cases(port, directory, kills=kills)
            if not chosen or any(word in case.title for word in chosen)
        ]
        return asyncio.run(_play(wanted, directory, lanes, seed))


async def _play(wanted: Sequence[Case], directory: Path, lanes: int, seed: int) -> list[Judged]:
    room = asyncio.Semaphore(lanes)
    pick = random.Random(seed)

    async def one(case: Case) -> Judged:
        async with room:
            judged = await judge(case, directory, pick)
            if judged.is_bad:
                hangs = ": hangs" if judged.hangs else ""
                counts = f", {judged.leases} leases" if judged.leases else ""
                said = f"BAD {case.title} ({judged.seconds:.1f} s){hangs}: {judged.wrong}{counts}"
                print(said, file=sys.stderr, flush=True)
            return judged

    return list(await asyncio.gather(*(one(case) for case in wanted)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.workers", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", default=[], help="words of the cases to play; all by default")
    parser.add_argument("--kills", type=int, default=50, help="processes killed in their first second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep cores busy")
    parser.add_argument("--lanes", type=int, default=2, help="cases at once")
    given = parser.parse_args(arguments)
    results = play(given.case, lanes=given.lanes, busy=given.busy, seed=given.seed, kills=given.kills)
    bad = [each for each in results if each.is_bad]
    rows = []
    for place in dict.fromkeys(each.case.place for each in results):
        own = [each for each in results if each.case.place == place]
        slowest = max(each.seconds for each in own)
        sums = [sum(each.hangs for each in own), sum(each.leases for each in own), sum(each.is_bad for each in own)]
        rows.append([place, len(own), *sums, f"{slowest:.1f}"])
    print(driving.table(["place", "cases", "hangs", "leases", "bad", "max s"], rows))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
