"""What is particular to Redis: a real server that expires, fills up, restarts and refuses, and its URL."""

import contextlib
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator

import pytest

from lm_deluge.cache.codec import compress
from lm_deluge.cache.entry import Blob, Entry, Facts
from lm_deluge.cache.stores.redis import RedisStore
from lm_deluge.errors import CacheError, CacheFileError, CacheVersionError, ConfigError
from lm_deluge.testing._store_checks import blob_name, entry, key_of

from .redis_server import RedisServer

LEAF = Blob(b"a long message " * 100)


@pytest.fixture
def store(redis_url: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_url)
    yield store
    store.close()


@pytest.fixture
def server(redis_server: RedisServer, redis_url: str) -> RedisServer:
    """The server of ``store``, to be looked into."""
    return redis_server


def expiring(name: str, seconds: float, *, blobs: tuple[Blob, ...] = ()) -> Entry:
    whole = entry(name, blobs=blobs)
    return Entry(
        key=whole.key,
        value=whole.value,
        request=whole.request,
        refers=whole.refers,
        blobs=whole.blobs,
        expires=time.time() + seconds,
    )


def test_without_redis_only_its_use_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"RedisCache needs 'redis'.*pip install redis$"):
        RedisStore("redis://localhost")


def test_nothing_imports_redis_before_it_is_used() -> None:
    check = (
        "import sys; import lm_deluge.cache, lm_deluge.cache.stores.redis; assert 'redis' not in sys.modules, "
        "[name for name in sys.modules if name.startswith('redis')]"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# Where the entries are


def test_names_in_the_server(store: RedisStore, server: RedisServer) -> None:
    store.put_many([entry("a", blobs=[LEAF])])
    store.acquire([key_of("b")], b"holder", now=0.0, seconds=60.0)
    with server.client() as client:
        assert set(client.keys()) == {
            b"lm_deluge:format",
            b"lm_deluge:value:" + key_of("a"),
            b"lm_deluge:request:" + key_of("a"),
            b"lm_deluge:facts:" + key_of("a"),
            b"lm_deluge:blob:" + blob_name(LEAF.data),
            b"lm_deluge:lease:" + key_of("b"),
        }
        assert client.get(b"lm_deluge:value:" + key_of("a")) == b"value"
        assert client.get(b"lm_deluge:lease:" + key_of("b")) == b"holder"


def test_prefixes_do_not_see_each_other(redis_url: str) -> None:
    odd = ["mine", "mi*", "mi[n]e", "mi?e", "mine:value", "m\\ine", "mi^e", ""]
    with contextlib.ExitStack() as closing:
        stores = [closing.enter_context(contextlib.closing(RedisStore(redis_url, prefix=prefix))) for prefix in odd]
        for prefix, store in zip(odd, stores, strict=True):
            store.put_many([entry("shared", prefix.encode() or b"empty"), entry(f"of {prefix}", blobs=[LEAF])])
        for prefix, store in zip(odd, stores, strict=True):
            assert store.get_many([key_of("shared")]) == [prefix.encode() or b"empty"]
            assert {stored.key for stored in store.scan()} == {key_of("shared"), key_of(f"of {prefix}")}
            assert (store.usage()["entries"], store.usage()["blobs"]) == (2, 1)


def test_names_of_others_are_left_alone(store: RedisStore, server: RedisServer) -> None:
    with server.client() as client:
        client.set("theirs", "data")
        client.lpush(b"lm_deluge:value:" + key_of("list"), "not a string")
        assert store.get_many([key_of("list")]) == [None]
        store.put_many([entry("list")])
        assert store.get_many([key_of("list")]) == [b"value"]
        assert store.delete(key_of("list")) is True
        assert client.get("theirs") == b"data"


def test_a_newer_format_is_refused(redis_url: str, server: RedisServer) -> None:
    with server.client() as client:
        client.set("lm_deluge:format", "2")
        with pytest.raises(CacheVersionError, match="newer version"):
            RedisStore(redis_url)
        assert client.keys() == [b"lm_deluge:format"]


# Expiry and blobs


def test_entries_expire_by_the_clock_of_the_server(store: RedisStore, server: RedisServer) -> None:
    store.put_many([expiring("soon", 0.2), expiring("past", -5), expiring("late", 500), entry("never")])
    assert store.get_many([key_of("past"), key_of("late"), key_of("never")]) == [None, b"value", b"value"]
    with server.client() as client:
        for kind in (b"value", b"request", b"facts"):
            assert 400_000 < client.pttl(b"lm_deluge:" + kind + b":" + key_of("late")) <= 500_000
            assert client.pttl(b"lm_deluge:" + kind + b":" + key_of("never")) == -1
    deadline = time.monotonic() + 60
    while store.get_many([key_of("soon")]) != [None]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert {stored.key for stored in store.scan()} == {key_of("late"), key_of("never")}


def test_an_entry_that_is_stored_again_without_an_end_stays(store: RedisStore, server: RedisServer) -> None:
    store.put_many([expiring("a", 100)])
    store.put_many([entry("a")])
    with server.client() as client:
        assert all(client.pttl(name) == -1 for name in client.scan_iter())


@pytest.mark.parametrize("expires", [float("inf"), 1e300, -1e300, 0.0])
def test_times_without_measure(store: RedisStore, expires: float) -> None:
    store.put_many([Entry(key=key_of("a"), value=b"value", expires=expires)])
    assert store.get_many([key_of("a")]) == [b"value" if expires > 0 else None]


@pytest.mark.parametrize(
    ("seconds", "left"),
    [([100, 500], 500), ([500, 100], 500), ([100, None], None), ([None, 100], None), ([30, 40], 40)],
)
@pytest.mark.parametrize("together", [True, False])
def test_a_blob_lasts_as_long_as_the_last_that_needs_it(
    store: RedisStore, server: RedisServer, seconds: list[float | None], left: float | None, together: bool
) -> None:
    entries = [
        entry(number, blobs=[LEAF]) if end is None else expiring(str(number), end, blobs=(LEAF,))
        for number, end in enumerate(seconds)
    ]
    for some in [entries] if together else [[one] for one in entries]:
        store.put_many(some)
    with server.client() as client:
        found = client.pttl(b"lm_deluge:blob:" + blob_name(LEAF.data))
    if left is None:
        assert found == -1
    else:
        assert (left - 10) * 1000 < found <= left * 1000


def test_a_blob_that_is_there_is_not_sent_again(store: RedisStore, server: RedisServer) -> None:
    large = Blob(secrets.token_bytes(200_000))
    store.put_many([entry("first", blobs=[large])])
    with server.client() as client:
        before = client.info("stats")["total_net_input_bytes"]
        for number in range(20):
            store.put_many([entry(number, blobs=[large])])
        assert client.info("stats")["total_net_input_bytes"] - before < 100_000
    assert store.read_blobs([blob_name(large.data)]) == {blob_name(large.data): large.data}


def test_what_is_wrong_is_said(store: RedisStore, server: RedisServer) -> None:
    node = Blob(b"node" * 100, (blob_name(LEAF.data),))
    other = Blob(b"other" * 100)
    store.put_many([entry("a", blobs=[node, LEAF]), entry("b", blobs=[other]), entry("c")])
    assert list(store.verify()) == []
    with server.client() as client:
        client.delete(b"lm_deluge:blob:" + blob_name(LEAF.data))
        client.set(b"lm_deluge:blob:" + blob_name(other.data), compress(b"something else"))
        client.set(b"lm_deluge:facts:" + key_of("c"), b"\x91\xa1\xff")  # text that is no UTF-8
        client.rpush("lm_deluge:aside", b"\xc1")
        client.hset("lm_deluge:runs", "7", b"\x91" * 5000)
    said = sorted(store.verify())
    assert len(said) == 5
    assert "1 of 1 quarantined entries do not decode" in said
    assert "the accounts of 1 of 1 runs do not decode" in said
    assert f"blob {blob_name(LEAF.data).hex()[:16]}… is missing" in said
    assert f"blob {blob_name(other.data).hex()[:16]}… does not hold what its digest says" in said
    assert f"the facts of {key_of('c').hex()[:16]}… do not decode" in said
    assert store.read_blobs([blob_name(other.data), blob_name(LEAF.data)]) == {}
    (found,) = store.read([key_of("c")])
    assert found is not None
    assert (found.value, found.facts) == (b"value", Facts())


# One step at a time


def test_a_batch_is_stored_whole_or_not_at_all(store: RedisStore, server: RedisServer) -> None:
    """Beside many small batches, a reader sees an entry with all its parts, and all entries of a batch or none."""
    pairs = [(entry(f"{number}-a", blobs=[LEAF]), entry(f"{number}-b")) for number in range(300)]
    child = multiprocessing.get_context("fork").Process(target=_put_pairs, args=(store, pairs))
    child.start()
    seen = 0
    deadline = time.monotonic() + 60
    while seen < 300 and time.monotonic() < deadline:
        one, other = pairs[min(seen, 299)]
        # As one command of the server, so that nothing can come between.
        with server.client() as client:
            names = [b"lm_deluge:" + kind + b":" + one.key for kind in (b"value", b"request", b"facts")]
            parts = client.mget([*names, b"lm_deluge:value:" + other.key])
        assert len({part is None for part in parts}) == 1
        seen += parts[0] is not None
    child.join(60)
    assert (seen, child.exitcode) == (300, 0)


def _put_pairs(store: RedisStore, pairs: list[tuple[Entry, Entry]]) -> None:
    for pair in pairs:
        store.put_many(pair)


def test_quarantine_and_replacing_at_once_loses_no_good_entry(redis_url: str) -> None:
    with contextlib.closing(RedisStore(redis_url)) as one, contextlib.closing(RedisStore(redis_url)) as two:
        for _ in range(50):
            one.put_many([entry("a", b"bad")])
            two.put_many([entry("a", b"good")])
            assert one.quarantine(key_of("a"), b"bad", "test") is False
            assert one.get_many([key_of("a")]) == [b"good"]


def test_the_server_forgetting_its_scripts_changes_nothing(store: RedisStore, server: RedisServer) -> None:
    for number in range(3):
        with server.client() as client:
            client.script_flush()
        assert store.acquire([key_of(number)], b"one", now=0.0, seconds=60.0) == [True]
        assert store.renew([key_of(number)], b"one", now=0.0, seconds=60.0) == [True]
        store.release([key_of(number)], b"one")
        assert store.acquire([key_of(number)], b"two", now=0.0, seconds=60.0) == [True]


def test_many_leases_at_once(store: RedisStore) -> None:
    keys = [key_of(number) for number in range(1200)]
    assert store.acquire(keys[::2], b"one", now=0.0, seconds=60.0) == [True] * 600
    assert store.acquire(keys, b"two", now=0.0, seconds=60.0) == [False, True] * 600
    store.release(keys, b"two")
    assert store.renew(keys, b"one", now=0.0, seconds=60.0) == [True, False] * 600


# Forks


def test_a_forked_child_has_connections_of_its_own(store: RedisStore, server: RedisServer) -> None:
    store.put_many([entry("before")])
    contexts = multiprocessing.get_context("fork")
    children = [contexts.Process(target=_use_in_child, args=(store, number)) for number in range(4)]
    for child in children:
        child.start()
    for number in range(200):
        store.put_many([entry(f"parent {number}", b"%d" % number)])
        assert store.get_many([key_of(f"parent {number}"), key_of("before")]) == [b"%d" % number, b"value"]
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    names = [f"{child} {number}" for child in range(4) for number in range(100)]
    assert store.get_many([key_of(name) for name in names]) == [name.encode() for name in names]


def _use_in_child(store: RedisStore, child: int) -> None:
    for number in range(100):
        name = f"{child} {number}"
        store.put_many([entry(name, name.encode())])
        if store.get_many([key_of(name), key_of("before")]) != [name.encode(), b"value"]:
            os._exit(7)
    store.close()


# Failures


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that the test may stop."""
    with RedisServer(tcp=True) as server:
        yield server


def test_a_server_that_restarts_is_used_again(own_server: RedisServer) -> None:
    store = RedisStore(own_server.url)
    store.put_many([entry("a")])
    own_server.stop()
    for use in (
        lambda: store.get_many([key_of("a")]),
        lambda: store.put_many([entry("b")]),
        lambda: store.delete(key_of("a")),
        lambda: store.quarantine(key_of("a"), b"value", "test"),
        lambda: list(store.scan()),
        lambda: store.acquire([key_of("a")], b"one", now=0.0, seconds=1.0),
        lambda: store.usage(),
    ):
        with pytest.raises(CacheFileError, match="cannot be reached"):
            use()
    own_server.start()
    store.put_many([entry("b")])
    assert store.get_many([key_of("a"), key_of("b")]) == [None, b"value"]
    store.close()


def test_a_connection_that_broke_is_made_again(own_server: RedisServer) -> None:
    store = RedisStore(own_server.url)
    with own_server.client() as client:
        for _ in range(3):
            client.client_kill_filter(_type="normal", skipme=True)
            store.put_many([entry("a")])
            client.client_kill_filter(_type="normal", skipme=True)
            assert store.get_many([key_of("a")]) == [b"value"]
    store.close()


def test_a_full_server_says_what_to_do() -> None:
    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        store = RedisStore(server.url)
        store.put_many([entry("before")])
        number, value = 0, secrets.token_bytes(100_000)
        with pytest.raises(CacheFileError, match=r"is full\. Raise its maxmemory") as caught:  # noqa: PT012
            for number in range(100):
                store.put_many([entry(number, value), entry(f"with {number}")])
        assert len(str(caught.value)) < 400  # nothing of the value in it
        # What was refused was refused whole, what was stored is served, and the store goes on.
        assert store.get_many([key_of(number), key_of(f"with {number}")]) == [None, None]
        assert store.get_many([key_of(0), key_of("with 0")]) == [value, b"value"]
        assert store.get_many([key_of("before")]) == [b"value"]
        store.close()
        with contextlib.closing(RedisStore(server.url)) as again:
            assert again.get_many([key_of("before")]) == [b"value"]


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_deluge.cache.stores.redis.limits._SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(CacheFileError, match="does not answer"):
            RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - began < 30


def test_a_replica_is_refused(own_server: RedisServer) -> None:
    store = RedisStore(own_server.url)
    with own_server.client() as client:
        client.replicaof("127.0.0.1", "1")
    with pytest.raises(CacheFileError, match="URL of the primary"):
        store.put_many([entry("a")])
    store.close()


# Credentials

SECRET = "s3cret&word"


def test_no_message_holds_a_password() -> None:
    with RedisServer(tcp=True, password=SECRET) as server:
        with contextlib.closing(RedisStore(server.url)) as store:
            store.put_many([entry("a")])
            assert SECRET not in repr(store) + store.location
            assert store.location == f"redis://127.0.0.1:{server.port}/0"
        for url in (server.url.replace(SECRET, "wr0ng"), server.url.replace(f":{SECRET}@", "")):
            with pytest.raises(CacheFileError, match=r"refuses us.*Check user and password") as caught:
                RedisStore(url)
            said = "".join(traceback.format_exception(caught.value))
            assert SECRET not in said
            assert "wr0ng" not in said
        port = server.port
    with pytest.raises(CacheFileError, match="cannot be reached") as caught:
        RedisStore(f"redis://user:{SECRET}@127.0.0.1:{port}/0")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("redis://127.0.0.1:1", "redis://127.0.0.1:1"),
        (f"redis://user:{SECRET}@127.0.0.1:1/3", "redis://127.0.0.1:1/3"),
        (f"redis://127.0.0.1:1/0?password={SECRET}&db=2", "redis://127.0.0.1:1/0"),
        (f"rediss://:{SECRET}@127.0.0.1:1", "rediss://127.0.0.1:1"),
        (f"redis://:{SECRET}@[::1]:1/0", "redis://[::1]:1/0"),
        (f"unix://user:{SECRET}@/nowhere/redis.sock?db=1&password={SECRET}", "unix:///nowhere/redis.sock"),
    ],
)
def test_a_location_without_credentials(url: str, location: str) -> None:
    with pytest.raises(CacheFileError) as caught:
        RedisStore(url)
    assert f"The Redis server {location} " in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "localhost:6379",
        f"http://:{SECRET}@host",
        f"redis://:pa{SECRET}#ss@host",
        f"redis://:pa/{SECRET}@host:6379",
        "redis://",
        "unix://",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host:99999999",
        f"redis://:{SECRET}@host?db=many",
        f"redis://:{SECRET}@host?no_such_option=1",
        None,
        7,
    ],
)
def test_what_is_no_url_is_refused_without_a_word_of_it(url: object) -> None:
    with pytest.raises(ConfigError, match=r"redis://\[user:password@\]host") as caught:
        RedisStore(url)  # type: ignore[arg-type]
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_closed_store_does_not_connect_again(store: RedisStore, server: RedisServer) -> None:
    with server.client() as client:
        store.close()
        before = client.info("stats")["total_connections_received"]
        for use in (
            store.usage,
            lambda: list(store.runs()),
            lambda: store.acquire([key_of("a")], b"o", now=0, seconds=1),
        ):
            with pytest.raises(CacheError, match="is closed"):
                use()
        assert client.info("stats")["total_connections_received"] == before
