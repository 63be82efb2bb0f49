"""Fork while threads use a client, and replace a cache file while it is used.

``python -m tests.stress.forks --forks 720 --replaced 18`` forks that many children while three threads run prompts
through the client that the children inherit. Each child asks for an answer that is cached, reads the client's accounts
and leaves; one that has not after 20 seconds waits for a lock that nobody will release. Then a cache file is replaced
by a backup that holds other answers (``mv backup.db c.db``) while a client uses it: afterwards the file has to hold
what the backup held, and has to be sound. Ends with status 1 if anything is wrong.
"""

import argparse
import asyncio
import faulthandler
import itertools
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from lm_deluge.cache import MemoryCache, SqliteCache
from lm_deluge.prompt import Conversation

from . import driving
from .watch import Marks, Watched, make_client, text_of

__all__ = ["Forked", "Replaced", "fork", "main", "replace"]

_LIMIT = 20.0
_AT_ONCE = 4


class Forked(msgspec.Struct):
    """How children ended, and what the slowest of them and the slowest fork took."""

    children: int = 0
    hung: int = 0
    failed: int = 0
    slowest: float = 0.0
    slowest_fork: float = 0.0


def _child(client: Any) -> int:
    """What a forked child does. Returns its exit status."""
    faulthandler.cancel_dump_traceback_later()
    (response,) = client.process_prompts_sync([text_of("f:cached")], show_progress=False)
    if response.is_error or not response.local_cache_hit:
        return 2
    client.report()
    return 0 if client.cache.get(Conversation.user(text_of("f:cached"))) is not None else 3


def fork(forks: int, *, seed: int = 0, kind: str = "sqlite") -> Forked:
    """Fork so often while threads use a client. To be called in a process of its own: it forks with threads."""
    pick = random.Random(seed)
    outcome = Forked()
    with tempfile.TemporaryDirectory(prefix="forks-") as name, driving.server(Path(name) / "server.log") as port:
        cache = SqliteCache(Path(name) / "c.db") if kind == "sqlite" else MemoryCache()
        transport = Watched(Marks(f"{name}/marks"), phase="1", milliseconds=(0, 4))
        client = make_client(port, transport, cache=cache, single_flight=True, max_concurrent_requests=20)
        client.process_prompts_sync([text_of("f:cached")], show_progress=False)
        over = threading.Event()

        def use(thread: int) -> None:
            for turn in itertools.count():
                if over.is_set():
                    return
                asked = [text_of(f"f:{thread}-{turn}-{number}") for number in range(12)] + [text_of("f:cached")] * 4
                client.process_prompts_sync(asked, show_progress=False)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        running: dict[int, float] = {}
        while outcome.children < forks or running:
            if outcome.children < forks and len(running) < _AT_ONCE:
                time.sleep(pick.random() * 0.01)
                began = time.monotonic()
                pid = os.fork()
                if pid == 0:
                    status = 4
                    try:
                        status = _child(client)
                    finally:
                        os._exit(status)
                outcome.slowest_fork = max(outcome.slowest_fork, time.monotonic() - began)
                outcome.children += 1
                running[pid] = began
            _reap(running, outcome)
        over.set()
        for thread in threads:
            thread.join()
        client.close()
    return outcome


def _reap(running: dict[int, float], outcome: Forked) -> None:
    for pid, began in list(running.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        took = time.monotonic() - began
        if done:
            outcome.slowest = max(outcome.slowest, took)
            if status:
                outcome.failed += 1
                print(f"BAD a child ended with status {status >> 8 or -(status & 127)}", file=sys.stderr)
            del running[pid]
        elif took > _LIMIT:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            outcome.hung += 1
            del running[pid]
    time.sleep(0.001)


class Replaced(msgspec.Struct):
    """What became of files that were replaced while in use."""

    files: int = 0
    lost: int = 0
    corrupt: int = 0
    errors: int = 0


def replace(files: int, *, seed: int = 0) -> Replaced:
    """Replace so many cache files by backups, each while a client uses it."""
    pick = random.Random(seed)
    outcome = Replaced()
    with tempfile.TemporaryDirectory(prefix="replaced-") as name, driving.server(Path(name) / "server.log") as port:
        directory = Path(name)
        for number in range(files):
            lost, corrupt, errors = _replace_one(directory, port, f"x{number}", pick)
            outcome.files += 1
            outcome.lost += lost
            outcome.corrupt += corrupt
            outcome.errors += errors
    return outcome


def _replace_one(directory: Path, port: int, name: str, pick: random.Random) -> tuple[bool, bool, int]:
    path, backup = directory / f"{name}.db", directory / f"{name}-backup.db"
    marks = Marks(str(directory / "marks"))

    def client_of(cache: SqliteCache) -> Any:
        return make_client(port, Watched(marks, phase="1", milliseconds=(1, 5)), cache=cache, max_concurrent_requests=8)

    kept = [text_of(f"{name}:kept-{number}") for number in range(50)]
    with SqliteCache(backup) as cache:
        client_of(cache).process_prompts_sync(kept, show_progress=False)
    with SqliteCache(path) as cache:
        client = client_of(cache)

        def asked(part: str) -> list[str]:
            return [text_of(f"{name}:{part}-{number}") for number in range(60)]

        async def use() -> int:
            errors = 0
            async for response in client.process_prompts_iter(asked("before"), show_progress=False):
                errors += response.is_error
            moment = pick.randrange(60)
            told = 0
            async for response in client.process_prompts_iter(asked("meanwhile"), show_progress=False):
                errors += response.is_error
                told += 1
                if told == moment:
                    shutil.move(backup, path)
            return errors

        errors = asyncio.run(use())
        errors += sum(r.is_error for r in client.process_prompts_sync(asked("after"), show_progress=False))
    with closing(sqlite3.connect(path)) as connection:
        try:
            corrupt = connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
        except sqlite3.DatabaseError:
            return True, True, errors
    with SqliteCache(path) as cache:
        found = sum(cache.get(Conversation.user(prompt)) is not None for prompt in kept)
    return found != len(kept), corrupt, errors


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.forks", description=__doc__.partition("\n")[0])
    parser.add_argument("--forks", type=int, default=720)
    parser.add_argument("--replaced", type=int, default=18)
    parser.add_argument("--cache", choices=["sqlite", "memory"], default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", type=int, default=2, help="processes that keep cores busy")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    with driving.busy_cores(given.busy):
        forked = fork(given.forks, seed=given.seed, kind=given.cache)
        replaced = replace(given.replaced, seed=given.seed)
    told = Counter(msgspec.structs.asdict(forked))
    print(", ".join(f"{name} {value:,.2f}".removesuffix(".00") for name, value in told.items()))
    print(", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(replaced).items()))
    bad = forked.hung or forked.failed or replaced.lost or replaced.corrupt or replaced.errors
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
