"""A server that is no Redis, or a hostile one: an exchange ends in time, is of bounded size, and fails in our words."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lm_deluge.cache import RedisCache
from lm_deluge.cache.admin.archive import export
from lm_deluge.cache.stores.redis import RedisStore
from lm_deluge.cache.stores.redis import client as _redis_client
from lm_deluge.cache.stores.redis import limits as _redis_limits
from lm_deluge.errors import CacheError, CacheFileError, CacheWarning
from lm_deluge.testing._store_checks import entry, key_of

from .hostile_redis import HostileRedis, usual

KEYS = [key_of("a"), key_of("b")]

REPLIES: dict[str, tuple[bytes, bytes]] = {  # what is sent first, and then without an end
    "a line without an end": (b"+", b"x" * 10_000),
    "an endless array": (b"*2000000000\r\n", b"$1\r\nx\r\n"),
    "a large value": (b"*2\r\n$5000000000\r\n", b"0" * 100_000),
    "an endless value": (b"*2\r\n$200000000\r\n", b"0" * 100_000),
    "a negative size": (b"*2\r\n$-5\r\n", b""),
    "a size that is none": (b"*2\r\n$1_0\r\n0123456789\r\n", b""),
    "a value of another length": (b"*2\r\n$1\r\nabc\r\n$1\r\na\r\n", b""),
    "nested arrays": (b"*1\r\n" * 100_000, b""),
    "no element": (b"*0\r\n", b""),
    "an element more": (b"*3\r\n$-1\r\n$-1\r\n$-1\r\n", b""),
    "no array": (b"*-1\r\n", b""),
    "numbers": (b"*2\r\n:1\r\n:2\r\n", b""),
    "a number without an end": (b":" + b"9" * 5_000 + b"\r\n", b""),
    "arrays in it": (b"*2\r\n*1\r\n$1\r\na\r\n*0\r\n", b""),
    "an error in it": (b"*2\r\n-ERR inside\r\n$1\r\na\r\n", b""),
    "a push without an end": (b">1\r\n$1\r\nx\r\n", b">1\r\n$1\r\nx\r\n"),
    "a map": (b"%1\r\n$1\r\na\r\n$1\r\nb\r\n", b""),
    "a big number": (b"(" + b"9" * 50 + b"\r\n", b""),
    "a double": (b",nan\r\n", b""),
    "nothing of it": (b"\r\n\r\n", b""),
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", b""),
    "another server": (b"-MOVED 3999 127.0.0.1:1\r\n", b""),
    "an error with ESC": (b"-ERR \x1b]0;x\x07\x1b[2J \xe2\x80\xae" + b"long " * 1_000 + b"\r\n", b""),
    "an error that is not UTF-8": (b"-ERR \xff\xfe\r\n", b""),
}


def sending(first: bytes, then: bytes = b"", *, to: bytes = b"MGET") -> Callable[[list[bytes]], Iterator[bytes]]:
    def answer(words: list[bytes]) -> Iterator[bytes]:
        if words[0].upper() != to:
            yield usual(words)
            return
        yield first
        while then:
            yield then

    return answer


def checked(error: CacheError) -> str:
    said = str(error)
    assert said.isprintable()
    assert len(said) < 600
    return said


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_that_is_none_is_an_error_of_ours(kind: str) -> None:
    with HostileRedis(sending(*REPLIES[kind])) as server, contextlib.closing(RedisStore(server.url)) as store:
        with pytest.raises(CacheError) as caught:
            store.get_many(KEYS)
        assert server.url in checked(caught.value)


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_an_exchange_has_one_deadline(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """Not one for each byte: one that trickles is given up as one that is silent."""
    monkeypatch.setattr(_redis_limits, "_SECONDS", 0.3)

    def answer(words: list[bytes]) -> Iterator[bytes]:
        if words[0] != b"MGET":
            yield usual(words)
            return
        yield b"*2\r\n$1000000\r\n"
        while not server.over.wait(0.02):
            yield piece

    with HostileRedis(answer) as server, contextlib.closing(RedisStore(server.url)) as store:
        began = time.monotonic()
        with pytest.raises(CacheFileError, match="does not answer"):
            store.get_many(KEYS)
        assert 0.2 < time.monotonic() - began < 60  # each byte would begin it anew


def test_a_greeting_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_limits, "_SECONDS", 0.3)

    def answer(words: list[bytes]) -> Iterator[bytes]:
        while not server.over.wait(0.02):
            yield b"+"

    with HostileRedis(answer) as server, pytest.raises(CacheFileError, match="does not answer"):
        RedisStore(server.url.replace("//", "//:secret@"))


def test_a_server_that_repeats_the_password_is_not_quoted() -> None:
    answer = sending(b"-WRONGPASS se%cret9 is not right for se%cret9\r\n", to=b"AUTH")
    with HostileRedis(answer) as server, pytest.raises(CacheFileError, match="refuses us") as caught:
        RedisStore(server.url.replace("//", "//:se%25cret9@"))
    assert "cret9" not in checked(caught.value)


def commands(store: RedisStore) -> dict[str, Callable[[], object]]:
    return {
        "scan": lambda: list(store.scan()),
        "newest": lambda: list(store.scan(newest_first=True)),
        "usage": store.usage,
        "verify": lambda: list(store.verify()),
        "export": lambda: export(store, lambda line: None),
        "quarantined": lambda: list(store.quarantined()),
        "delete": lambda: store.delete_many(KEYS),
        "delete quarantined": lambda: store.delete_quarantined(KEYS),
        "runs": lambda: list(store.runs()),
        "put": lambda: store.put_many([entry("a")]),
        "quarantine": lambda: store.quarantine(KEYS[0], b"value", "test"),
        "acquire": lambda: store.acquire(KEYS, b"me", now=0.0, seconds=1.0),
        "renew": lambda: store.renew(KEYS, b"me", now=0.0, seconds=1.0),
        "release": lambda: store.release(KEYS, b"me"),
    }


ODD = [
    b":7\r\n",
    b"$3\r\nodd\r\n",
    b"*1\r\n*1\r\n:1\r\n",
    b"*2\r\n$1\r\n1\r\n*1\r\n$-1\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"-ERR\r\n",
]


@pytest.mark.parametrize("reply", ODD)
def test_whatever_is_asked_may_be_answered_oddly(reply: bytes) -> None:
    """Every command gives what it can give, or an error of ours; and none goes on for ever."""

    def answer(words: list[bytes]) -> Iterator[bytes]:
        yield usual(words) if words[0] == b"GET" else reply

    with HostileRedis(answer) as server, contextlib.closing(RedisStore(server.url)) as store:
        for use in commands(store).values():
            with contextlib.suppress(CacheError):
                use()


def endless(kind: str) -> Callable[[list[bytes]], Iterator[bytes]]:
    numbers = itertools.count(1)

    def answer(words: list[bytes]) -> Iterator[bytes]:
        cursor = b"1" if kind == "one place" else b"%d" % next(numbers)
        name = key_of(next(numbers)) if kind == "names" else key_of(0)
        full = b"lm_deluge:value:" + name
        if words[0] == b"SCAN":
            yield b"*2\r\n$%d\r\n%s\r\n*1\r\n$%d\r\n%s\r\n" % (len(cursor), cursor, len(full), full)
        elif words[0] == b"LRANGE":
            yield b"*1\r\n$1\r\nx\r\n"
        elif words[0] in (b"LLEN", b"LREM", b"STRLEN"):
            yield b":3\r\n"
        else:
            yield usual(words)

    return answer


@pytest.mark.parametrize("kind", ["one place", "places", "names"])
def test_a_scan_comes_to_an_end(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(_redis_client, "_ROUNDS", 50)
    with HostileRedis(endless(kind)) as server, contextlib.closing(RedisStore(server.url)) as store:
        for name in ("scan", "newest", "usage", "verify", "export"):
            with pytest.raises(CacheError, match="without coming to an end"):
                commands(store)[name]()
        assert list(store.quarantined()) == []
        assert store.delete_quarantined(KEYS) == 0


def test_what_is_more_than_is_read_at_once_is_read_in_parts(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_limits, "_BYTES", 400_000)
    with contextlib.closing(RedisStore(redis_url)) as store:
        value = b"v" * 100_000
        store.put_many([entry(number, value) for number in range(9)])
        assert store.get_many([key_of(number) for number in range(10)]) == [value] * 9 + [None]
        store.put_many([entry("larger", b"v" * 500_000)])
        with pytest.raises(CacheError, match="500,000 bytes, more than is read"):
            store.get_many([key_of("larger"), key_of(1)])
        assert store.get_many([key_of(1)]) == [value]


def test_many_entries_are_stored_in_pieces(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_deluge.cache.stores.redis.limits._BYTES_AT_ONCE", 1_000)
    with contextlib.closing(RedisStore(redis_url)) as store:
        store.put_many([entry(number, b"v" * 300) for number in range(20)])
        assert store.get_many([key_of(number) for number in range(20)]) == [b"v" * 300] * 20


@pytest.mark.parametrize("single_flight", [False, True])
def test_a_run_goes_on_beside_such_a_server(single_flight: bool, make_client: Any) -> None:
    def answer(words: list[bytes]) -> Iterator[bytes]:
        yield usual(words) if words[0] == b"GET" else b"*1\r\n" * 1_000

    with HostileRedis(answer) as server, RedisCache(server.url) as cache:
        client = make_client(cache=cache, single_flight=single_flight)
        with pytest.warns(CacheWarning, match="failed"):
            answers = client.process_prompts_sync(["one", "two", "two"], show_progress=False)
    assert [one.is_error for one in answers] == [False] * 3
