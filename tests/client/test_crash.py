"""What reached the caller is in the cache, whoever is killed; and a damaged file costs calls, not answers."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.testing import Emulator

from . import crashing

PROGRAM = Path(__file__).with_name("crashing.py")


def start(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed(child: "subprocess.Popen[str]") -> list[str]:
    """Whole lines that a child had written when it was killed and that nobody has read."""
    child.kill()
    with child:
        rest, said = child.stdout.read(), child.stderr.read()
    assert child.returncode == -signal.SIGKILL, said
    return [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def is_intact(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def crash(path: Path, make_client, *, rounds: int, processes: int) -> None:
    pick = random.Random(rounds * processes)
    told = 0
    for number in range(rounds):
        children = [start("fill", path, f"{number}.{child}") for child in range(processes)]
        lines = []
        for child in children:
            lines += [child.stdout.readline() for _ in range(pick.randrange(1, 60))]
        time.sleep(pick.uniform(0, 0.02))  # to be in the middle of something, whatever it is
        for child in children:
            lines += killed(child)
        answers = dict(map(json.loads, lines))
        assert len(answers) == len(lines) >= processes
        assert is_intact(path)
        with SqliteCache(path) as cache:
            hits = make_client(cache=cache).process_prompts_sync(
                map(crashing.prompt, answers), cache_mode="offline", show_progress=False
            )
            assert list(cache.backend.verify()) == []
        assert {name: hit.completion for name, hit in zip(answers, hits, strict=True)} == answers
        assert all(hit.local_cache_hit for hit in hits)
        told += len(answers)
    assert told > rounds * processes


def test_what_reached_the_caller_survives_kill(tmp_path, emulator: Emulator, make_client):
    crash(tmp_path / "cache.db", make_client, rounds=3, processes=1)


def test_what_reached_the_callers_survives_the_kill_of_all(tmp_path, emulator: Emulator, make_client):
    crash(tmp_path / "cache.db", make_client, rounds=1, processes=4)


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 4])
def test_what_reached_the_caller_survives_many_kills(tmp_path, emulator: Emulator, make_client, processes):
    crash(tmp_path / "cache.db", make_client, rounds=200, processes=processes)


def flip(directory: Path, make_client, *, rounds: int) -> None:
    """Flip one bit anywhere in a file, and run a batch over it twice."""
    path = directory / "cache.db"
    asked = [crashing.prompt(f"flip {number}") for number in range(crashing.FLIPPED)]
    with SqliteCache(path) as cache:
        right = [r.completion for r in make_client(cache=cache).process_prompts_sync(asked, show_progress=False)]
    whole = path.read_bytes()
    pick = random.Random(rounds)
    targets = []
    for number in range(rounds):
        data = bytearray(whole)
        bit = pick.randrange((100 if number % 5 == 0 else len(data)) * 8)  # the header is where most can go wrong
        data[bit // 8] ^= 1 << bit % 8
        targets.append(directory / f"{number}.db")
        targets[-1].write_bytes(data)
    out, said = start("ask_flipped").communicate("".join(f"{target}\n" for target in targets), timeout=60 + rounds)
    outcomes = [json.loads(line) for line in out.splitlines()]
    assert len(outcomes) == rounds, said[-4000:]
    used = [outcome for outcome in outcomes if "refused" not in outcome]
    assert all(outcome["texts"] == [right, right] and not outcome["errors"] for outcome in used)
    assert sum(outcome["hits"][0] for outcome in used) > rounds * crashing.FLIPPED / 2
    assert len(used) > rounds / 2


def test_a_flipped_bit_costs_a_call_and_no_answer(tmp_path, emulator: Emulator, make_client):
    flip(tmp_path, make_client, rounds=60)


@pytest.mark.long
def test_many_flipped_bits_cost_calls_and_no_answer(tmp_path, emulator: Emulator, make_client):
    flip(tmp_path, make_client, rounds=1_000)


def all_put(path: Path, *, processes: int, count: int) -> float:
    """Seconds that the slowest of many puts took, when all processes begin at once."""
    children = [start("put", path, f"p{number}", count) for number in range(processes)]
    for child in children:
        assert child.stdout.readline() == '"ready"\n'
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    slowest = []
    for child in children:
        out, said = child.communicate(timeout=300)
        assert child.returncode == 0, said
        slowest.append(json.loads(out))
    with SqliteCache(path) as cache:
        names = [f"p{process} {number}" for process in range(processes) for number in range(count)]
        assert [cache.get(crashing.prompt(name)).completion for name in names] == names
    assert is_intact(path)
    return max(slowest)


@pytest.mark.long
def test_no_put_of_eight_processes_waits_for_a_second(tmp_path):
    assert all_put(tmp_path / "cache.db", processes=8, count=2_000) < 1.0
