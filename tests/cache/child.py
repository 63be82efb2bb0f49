"""The other process of a test: ``python child.py command path ...``. It writes what it has done, line by line."""

import asyncio
import os
import resource
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from lm_deluge.cache import LevelDBCache, SqliteCache
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheError
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse


def response(text: str) -> APIResponse:
    return APIResponse(model_internal="gpt-4.1-mini", content=Message.ai(text), finish_reason="stop")


def say(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def listen() -> None:
    sys.stdin.readline()


def store(path: str, name: str) -> None:
    """Store without end through the path the engine takes; say each key once ``store`` has returned."""

    async def one(cache: SqliteCache, worker: int) -> None:
        number = 0
        while True:
            key = f"{name}-{worker}-{number}"
            await cache.store(Conversation.system("long " * 400).user(key), response(key))
            say(key)
            number += 1

    async def main() -> None:
        cache = SqliteCache(path)
        await asyncio.gather(*(one(cache, worker) for worker in range(8)))

    asyncio.run(main())


def put(path: str, name: str, count: str) -> None:
    """Store ``count`` answers one by one."""
    cache = SqliteCache(path)
    for number in range(int(count)):
        cache.put(Conversation.user(f"{name}-{number}"), response(f"{name}-{number}"))


def construct(path: str) -> None:
    """Open the cache at the moment the parent says so, and use it."""
    say("ready")
    listen()
    cache = SqliteCache(path)
    cache.put(Conversation.user(str(os.getpid())), response("x"))
    cache.close()
    say("constructed")


def lease(path: str, holder: str) -> None:
    """Try to get leases as told: how many, at what time, for how long. Say for each of them whether it worked."""
    store = SqliteStore(path)
    say("ready")
    for line in sys.stdin:
        _, count, now, seconds = line.split()
        keys = [number.to_bytes(32, "big") for number in range(int(count))]
        won = [store.acquire([key], holder.encode(), now=float(now), seconds=float(seconds))[0] for key in keys]
        say("".join("01"[mine] for mine in won))


def construct_slowly(path: str) -> None:
    """Open new caches without end, for the parent to kill."""
    number = 0
    while True:
        target = f"{path}.{number}"
        say(target)
        SqliteCache(target).close()
        number += 1


def hold(path: str) -> None:
    """Keep the file locked for writing until told to stop."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM set_aside")
    say("held")
    listen()
    connection.execute("COMMIT")
    connection.close()


def count(path: str) -> None:
    """Look at the file with SQLite alone and close it, as the command line tool would."""
    connection = sqlite3.connect(path)
    say(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
    connection.close()


def touch_and_end(path: str, key: str, now: str) -> None:
    """Note the use of an entry, and end without closing anything."""
    global _kept
    _kept = SqliteStore(path)
    _kept.touch([bytes.fromhex(key)], now=float(now))


def open_leveldb(path: str) -> None:
    try:
        LevelDBCache(path)
    except CacheError as error:
        say(f"{type(error).__name__}: {error}")


def read_base_as_nobody(own: str, base: str, key: str) -> None:
    """Use a base that may not be written, without the rights of root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    store = OverlayStore(SqliteStore(own), SqliteStore(base, read_only=True))
    say(*[(value or b"").decode() for value in store.get_many([bytes.fromhex(key)])])
    store.put_many([Entry(key=bytes(32), value=b"value")])
    say(*[(value or b"").decode() for value in store.get_many([bytes(32)])])
    store.close()


def open_as_nobody(path: str) -> None:
    """Open a cache without the rights of root, if this is root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        SqliteCache(path)
    except CacheError as error:
        say(f"{type(error).__name__}: {error}")


def fill_up(path: str) -> None:
    """Store large answers until the file may not grow, then small ones once it may again."""
    cache = SqliteCache(path)
    cache.put(Conversation.user("before"), response("before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    try:
        cache.put(Conversation.user("large"), response(os.urandom(400_000).hex()))
    except CacheError as error:
        say(f"{type(error).__name__}: {error}")
    say(cache.get(Conversation.user("before")) is not None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cache.put(Conversation.user("after"), response("after"))
    say(cache.get(Conversation.user("after")) is not None)


def create_without_room(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
    try:
        SqliteCache(path)
    except CacheError as error:
        say(f"{type(error).__name__}: {error}")


def interrupted(path: str) -> None:
    """Cancel everything as Ctrl-C does, and end: what was accepted has to be stored all the same."""

    async def main() -> None:
        cache = SqliteCache(path)
        await cache.store(Conversation.user("first"), response("first"))
        tasks = [
            asyncio.ensure_future(cache.store(Conversation.user(f"late-{number}"), response("late")))
            for number in range(200)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def read_bits(path: str) -> None:
    """Read and write a file that may be damaged in any way; see the test for what is allowed."""
    expected = [f"a-{number}" for number in range(60)]
    for line in sys.stdin:
        target = line.strip()
        found = wrong = 0
        try:
            cache = SqliteCache(target)
            for outcome, text in zip(
                asyncio.run(cache.get_many([Conversation.user(text) for text in expected])), expected, strict=True
            ):
                found += outcome.response is not None
                wrong += outcome.response is not None and outcome.response != response(text)
            cache.put(Conversation.user("new"), response("new"))
            cache.close()
        except CacheError:
            pass
        say(f"{found} {wrong}")
        for suffix in ("", "-wal", "-shm"):
            Path(target + suffix).unlink(missing_ok=True)


if __name__ == "__main__":
    commands: list[Callable[..., None]] = [
        store,
        put,
        construct,
        lease,
        construct_slowly,
        hold,
        count,
        touch_and_end,
        open_leveldb,
        read_base_as_nobody,
        open_as_nobody,
        fill_up,
        create_without_room,
        interrupted,
        read_bits,
    ]
    {command.__name__: command for command in commands}[sys.argv[1]](*sys.argv[2:])
