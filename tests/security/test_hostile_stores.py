"""Servers and databases of strangers: whatever they hold, what comes out is an answer, a miss, or an error of ours."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lm_deluge.errors
from lm_deluge.cache import LevelDBCache, RedisCache, ResponseCache
from lm_deluge.cache.runs import Run
from lm_deluge.errors import CacheWarning

from ..cache.redis_server import RedisServer
from . import hostile
from .conftest import PASSWORD

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"

pytestmark = pytest.mark.filterwarnings(f"ignore::{CacheWarning.__module__}.CacheWarning")

DEEP = b"\x93\xa7default\x80" + b"\x91" * 100_000
ODD = [
    b"",
    b"\x00",
    b"\xc1",
    b"\xff" * 40,
    DEEP,
    b"\x91\xa2\xff\xfe",
    b"\x83\xa3key\xc4\x00\xa4when\x00\xa6reason\xa2\xff\xfe",
    b"\x84\xa3key\xc4\x00\xa4when\x00\xa6reason\xa0\xa3zzz" + b"\x91" * 100_000 + b"\xc0",
    b"\x92\xc4\x00\xdd\xff\xff\xff\xff",
    b"x" * 20_000,
]


def use(make: Callable[[], ResponseCache]) -> hostile.Use:
    """Open a cache and do everything with it."""
    used = hostile.Use("")
    cache: Any = used.done("open", make)
    if cache is not None:
        used.run(cache)
        used.scan(cache.backend, "")
        used.done("delete", lambda: cache.delete(hostile.prompt(1)))
        used.done("close", cache.close)
    foreign = {
        what: error for what, error in used.raised.items() if not error.startswith(tuple(lm_deluge.errors.__all__))
    }
    assert not foreign
    assert used.wrong == 0
    return used


def fill(cache: ResponseCache) -> None:
    with cache:
        for number in range(hostile.PROMPTS):
            cache.put(hostile.prompt(number), hostile.answer(number))


def types_of_redis(client: Any) -> list[Callable[[bytes], object]]:
    """Ways to put something else in the place of a name."""
    return [
        lambda name: client.rpush(name, b"list"),
        lambda name: client.sadd(name, b"set"),
        lambda name: client.hset(name, "hash", b"\xff"),
        lambda name: client.zadd(name, {"sorted": 1}),
        lambda name: client.xadd(name, {"stream": b"x"}),
        *(lambda name, value=value: client.set(name, value) for value in ODD),
    ]


def test_whatever_a_redis_server_holds(guarded_redis: RedisServer) -> None:
    pick = random.Random(1)
    with guarded_redis.client() as client:
        ways = types_of_redis(client)
        for way in range(len(ways)):
            client.flushall()
            fill(RedisCache(guarded_redis.url))
            for name in list(client.scan_iter()):
                if name != b"lm_deluge:format":
                    client.delete(name)
                    ways[way](name)
            assert use(lambda: RedisCache(guarded_redis.url)).hits == 0
        for _ in range(5):
            client.flushall()
            fill(RedisCache(guarded_redis.url))
            for name in [b"lm_deluge:runs", b"lm_deluge:aside", b"lm_deluge:format", *client.keys()]:
                if pick.random() < 0.3:
                    client.delete(name)
                    pick.choice(ways)(name)
            use(lambda: RedisCache(guarded_redis.url))


def test_a_redis_list_and_hash_of_anything(guarded_redis: RedisServer) -> None:
    """What was quarantined, and the accounts of runs."""
    with guarded_redis.client() as client:
        fill(RedisCache(guarded_redis.url))
        client.rpush("lm_deluge:aside", *ODD)
        client.hset("lm_deluge:runs", mapping={str(number): value for number, value in enumerate(ODD)})
        used = use(lambda: RedisCache(guarded_redis.url))
        assert (used.hits, used.raised) == (hostile.PROMPTS, {})


def test_a_lease_that_nobody_took_is_free(guarded_redis: RedisServer) -> None:
    """A lease lasts seconds. One without an end, with a late one or of another type was not taken by us."""
    names = [b"lm_deluge:lease:" + bytes([number]) * 32 for number in range(5)]
    with guarded_redis.client() as client, RedisCache(guarded_redis.url) as cache:
        client.rpush(names[0], "x")
        client.set(names[1], b"another")
        client.set(names[2], b"another", px=2_000_000_000)
        client.set(names[3], b"another", px=9_000)
        store: Any = cache.backend
        keys = [name[-32:] for name in names]
        assert store.renew(keys, b"me", now=0.0, seconds=6.0) == [False] * 5
        store.release(keys, b"me")
        assert client.exists(*names[:4]) == 4
        assert store.acquire(keys, b"me", now=0.0, seconds=6.0) == [True, True, True, False, True]
        assert store.acquire(keys, b"you", now=0.0, seconds=6.0) == [False] * 5
        assert all(client.pttl(name) <= 9_000 for name in names)


def test_the_rights_that_the_document_names_are_enough(guarded_redis: RedisServer) -> None:
    redis = pytest.importorskip("redis")
    (line,) = re.findall(r"^ +ACL (SETUSER deluge .*)$", DOCUMENT.read_text(), re.MULTILINE)
    with guarded_redis.client() as client:
        client.execute_command("ACL", *line.replace(">PASSWORD", ">secret").split())
        url = guarded_redis.url.replace(f":{PASSWORD}@", "deluge:secret@")
        fill(RedisCache(url))
        used = use(lambda: RedisCache(url))
        assert (used.hits, used.raised) == (hostile.PROMPTS, {})
        client.set("theirs", "x")
        with redis.Redis.from_url(url) as own, pytest.raises(redis.exceptions.NoPermissionError):
            own.get("theirs")
        with RedisCache(url) as cache:
            store: Any = cache.backend
            assert store.acquire([bytes(32)], b"me", now=0.0, seconds=1.0) == [True]
            assert store.renew([bytes(32)], b"me", now=0.0, seconds=1.0) == [True]
            store.release([bytes(32)], b"me")
            store.record_run(Run(id=1, started=1.0))
            assert len(list(store.runs())) == 1
        client.acl_deluser("deluge")


def test_whatever_a_leveldb_holds(tmp_path: Path) -> None:
    plyvel = pytest.importorskip("plyvel")
    directory = tmp_path / "cache"
    for odd in ODD:
        fill(LevelDBCache(directory))
        database = plyvel.DB(str(directory))
        for name, _ in list(database):
            if name not in (b"lm_deluge", b"format"):
                database.put(name, odd)
        for kind in b"abdeijlnrz":
            for name in (b"", bytes(32), bytes(40), bytes(64)):
                database.put(bytes([kind]) + name, odd)
        database.close()
        assert use(lambda: LevelDBCache(directory)).hits == 0


def flip_leveldb(tmp_path: Path, rounds: int, seed: int) -> None:
    pytest.importorskip("plyvel")
    pick = random.Random(seed)
    original = tmp_path / "original"
    fill(LevelDBCache(original))
    LevelDBCache(original).close()  # once more, so that the log has become a table
    hits = 0
    for number in range(rounds):
        copy = tmp_path / f"{number}"
        copy.mkdir()
        files = sorted(path for path in original.iterdir() if path.name not in ("LOCK", "LOG", "LOG.old"))
        content = {path.name: bytearray(path.read_bytes()) for path in files}
        for _ in range(pick.choice([1, 1, 5])):
            data = content[pick.choice([name for name in content if content[name]])]
            bit = pick.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
        for name, data in content.items():
            (copy / name).write_bytes(data)
        hits += use(lambda copy=copy: LevelDBCache(copy)).hits  # type: ignore[misc]
    assert hits  # of so few entries most lie in one block, and a flipped bit spoils all of it


def test_flipped_bits_in_a_leveldb(tmp_path: Path) -> None:
    flip_leveldb(tmp_path, 20, 1)


@pytest.mark.long
def test_many_flipped_bits_in_a_leveldb(tmp_path: Path) -> None:
    flip_leveldb(tmp_path, 1_000, 2)
