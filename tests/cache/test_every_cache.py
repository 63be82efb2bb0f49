"""What holds for every built-in cache, whatever is under it."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm_deluge.cache import DistributedDictCache, LevelDBCache, MemoryCache, RedisCache, ResponseCache, SqliteCache
from lm_deluge.errors import CacheError, CacheWarning, ConfigError, MediaError
from lm_deluge.prompt import Conversation, Image, Message
from lm_deluge.response import APIResponse

from . import strategies as some
from .conftest import Shelf
from .helpers import answer, prompt

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


@pytest.fixture(scope="module", params=["sqlite", "leveldb", "mapping", "memory"])
def lasting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponseCache]:
    """A cache that the examples of one test share."""
    if request.param == "leveldb":
        pytest.importorskip("plyvel")
    shelf = Shelf(request.param, tmp_path_factory.mktemp("lasting"))
    yield shelf.make()
    shelf.close()


def raw(cache: ResponseCache, text: str) -> tuple[bytes, bytes]:
    """Key and stored bytes of a prompt."""
    key = cache.key(prompt(text))
    (value,) = cache.backend.get_many([key])
    assert value is not None
    return key, value


def overwrite(cache: ResponseCache, key: bytes, value: bytes) -> None:
    """Put bytes under a key as damage would, past all encoding."""
    entry = msgspec.structs.replace(cache.core.entry(prompt("any"), answer("any")), key=key, value=value, blobs={})
    cache.backend.put_many([entry])


def test_what_was_never_put_is_none(cache: ResponseCache) -> None:
    assert cache.get(prompt("?")) is None
    assert asyncio.run(cache.get_many([])) == []


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(conversation=some.conversations, response=some.responses)
def test_an_answer_comes_back_as_it_was(
    lasting: ResponseCache, conversation: Conversation, response: APIResponse
) -> None:
    lasting.put(conversation, response)
    found = lasting.get(conversation)
    assert found == msgspec.structs.replace(response, id=0, local_cache_hit=False)
    assert found is not None
    assert found.raw_body == response.raw_body
    assert type(found.cost) is type(response.cost)
    assert asyncio.run(lasting.get_many([conversation]))[0].response == found


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(pairs=st.lists(st.tuples(some.conversations, some.responses), min_size=1, max_size=5))
def test_both_paths_store_and_find_the_same(
    lasting: ResponseCache, pairs: list[tuple[Conversation, APIResponse]]
) -> None:
    async def store() -> None:
        for conversation, response in pairs:
            await lasting.store(conversation, response)

    asyncio.run(store())
    by_async_path = asyncio.run(lasting.get_many([conversation for conversation, _ in pairs]))
    assert [found.response for found in by_async_path] == [lasting.get(conversation) for conversation, _ in pairs]
    assert all(found.response is not None and found.damage is found.failure is None for found in by_async_path)


def test_namespaces_do_not_see_each_other(shelf: Shelf) -> None:
    first = shelf.make("a")
    first.put(prompt("p"), answer("of a"))
    if shelf.kind == "leveldb":
        first.close()  # it serves one at a time
    second = shelf.make("b")
    assert second.get(prompt("p")) is None
    second.put(prompt("p"), answer("of b"))
    assert second.get(prompt("p")) == answer("of b")
    if shelf.kind == "leveldb":
        second.close()
        first = shelf.make("a")
    assert first.get(prompt("p")) == answer("of a")


@pytest.mark.parametrize("cache_key", ["", None, 3, b"x"])
def test_a_namespace_has_to_be_a_name(cache_key: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cache_key"):
        DistributedDictCache({}, cache_key)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cache_key"):
        MemoryCache(cache_key)  # type: ignore[arg-type]


def test_the_last_answer_counts(cache: ResponseCache) -> None:
    cache.put(prompt("p"), answer("first"))
    cache.put(prompt("p"), answer("second"))
    assert cache.get(prompt("p")) == answer("second")


def test_delete(cache: ResponseCache) -> None:
    cache.put(prompt("p"), answer("x"))
    assert cache.delete(prompt("p")) is True
    assert cache.get(prompt("p")) is None
    assert cache.delete(prompt("p")) is False


def test_answers_outlive_the_cache_object(shelf: Shelf) -> None:
    if not shelf.reopens:
        pytest.skip("memory is gone with its cache")
    with shelf.make() as first:
        first.put(prompt("p"), answer("kept"))
    assert shelf.make().get(prompt("p")) == answer("kept")


def test_many_lookups_keep_their_order(cache: ResponseCache) -> None:
    known = range(0, 1_300, 7)  # more than one statement's worth of keys

    async def main() -> list[str | None]:
        await asyncio.gather(*(cache.store(prompt(number), answer(number)) for number in known))
        found = await cache.get_many([prompt(number) for number in range(1_300)])
        return [None if outcome.response is None else outcome.response.completion for outcome in found]

    assert asyncio.run(main()) == [str(number) if number in known else None for number in range(1_300)]


def test_two_threads(cache: ResponseCache) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(40):
                cache.put(prompt(f"{name}{number}"), answer(f"{name}{number}"))
                assert cache.get(prompt(f"{name}{number}")) == answer(f"{name}{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(cache.get(prompt(f"{name}{number}")) for name in "ab" for number in range(40))


def test_closing_twice_is_fine_and_use_afterwards_says_so(cache: ResponseCache) -> None:
    cache.put(prompt("p"), answer("x"))
    cache.close()
    cache.close()
    uses = [
        lambda: cache.get(prompt("p")),
        lambda: cache.put(prompt("p"), answer("x")),
        lambda: cache.delete(prompt("p")),
        lambda: asyncio.run(cache.get_many([prompt("p")])),
        lambda: asyncio.run(cache.store(prompt("p"), answer("x"))),
    ]
    for use in uses:
        with pytest.raises(CacheError, match="is closed"):
            use()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda value: value[:-1], id="cut short"),
        pytest.param(lambda value: value[:20] + bytes([value[20] ^ 1]) + value[21:], id="one bit"),
        pytest.param(lambda value: b"\x01" + value[1:], id="other version"),
        pytest.param(lambda value: b"\x03" + value[1:], id="later version"),
        pytest.param(lambda value: b"\x80\x04cos\nsystem\n(S'false'\ntR.", id="pickle"),
    ],
)
@pytest.mark.parametrize("path", ["sync", "async"])
def test_a_damaged_entry_is_a_reported_miss_and_then_gone(cache: ResponseCache, damage: object, path: str) -> None:
    cache.put(prompt("good"), answer("good"))
    cache.put(prompt("bad"), answer("bad"))
    key, value = raw(cache, "bad")
    overwrite(cache, key, damage(value))  # type: ignore[operator]
    if path == "sync":
        with pytest.warns(CacheWarning, match=key.hex()[:16]):
            assert cache.get(prompt("bad")) is None
    else:
        good, bad = asyncio.run(cache.get_many([prompt("good"), prompt("bad")]))
        assert good.response == answer("good")
        assert bad.response is None
        assert bad.damage is not None
        assert key.hex()[:16] in bad.damage
        assert cache.location in bad.damage
        assert "could not be quarantined" not in bad.damage
    assert cache.backend.get_many([key]) == [None]
    assert asyncio.run(cache.get_many([prompt("bad")]))[0].damage is None
    cache.put(prompt("bad"), answer("better"))
    assert cache.get(prompt("bad")) == answer("better")


def test_quarantine_spares_what_was_stored_meanwhile(cache: ResponseCache) -> None:
    """Two processes find the damage; one has asked again and stored a good answer before the other acts."""
    cache.put(prompt("p"), answer("x"))
    key, value = raw(cache, "p")
    overwrite(cache, key, value[:-1])
    (damaged,) = cache.backend.get_many([key])
    cache.put(prompt("p"), answer("paid for"))
    cache.backend.quarantine(key, damaged, "seen before the put")
    assert cache.get(prompt("p")) == answer("paid for")


def test_an_entry_of_another_key_is_refused(cache: ResponseCache) -> None:
    cache.put(prompt("one"), answer("one"))
    _, value = raw(cache, "one")
    overwrite(cache, cache.key(prompt("two")), value)
    with pytest.warns(CacheWarning):
        assert cache.get(prompt("two")) is None
    assert cache.get(prompt("one")) == answer("one")


def test_what_a_caller_changes_never_reaches_the_cache(cache: ResponseCache) -> None:
    mine = msgspec.structs.replace(answer("x"), logprobs=[{"token": "x", "logprob": -0.5}])
    cache.put(prompt("p"), mine)
    assert mine.logprobs is not None
    mine.logprobs.append({"token": "mine"})
    first = cache.get(prompt("p"))
    assert first is not None
    assert first.logprobs == [{"token": "x", "logprob": -0.5}]
    first.logprobs.clear()
    second = cache.get(prompt("p"))
    assert second is not None
    assert second.logprobs == [{"token": "x", "logprob": -0.5}]


def test_the_same_image_by_path_and_by_bytes_is_one_entry(cache: ResponseCache, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    cache.put(Conversation.user("What is it?", image=path), answer("a picture"))
    assert cache.get(Conversation.user("What is it?", image=PNG)) == answer("a picture")
    assert cache.get(Conversation.user("What is it?", image=PNG + b"!")) is None


def test_a_missing_image_is_its_own_error(cache: ResponseCache) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        cache.put(Conversation([Message("user", [Image(path="/nowhere.png")])]), answer("x"))
    cache.put(prompt("p"), answer("x"))
    assert cache.get(prompt("p")) == answer("x")


def test_pickle_is_never_used(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    cache = shelf.make()
    cache.put(prompt("p"), answer("x"))
    assert cache.get(prompt("p")) == answer("x")
    asyncio.run(cache.store(prompt("q"), answer("y")))
    assert asyncio.run(cache.get_many([prompt("q")]))[0].response == answer("y")
    key, _ = raw(cache, "p")
    overwrite(cache, key, b"\x80\x04N.")
    with pytest.warns(CacheWarning):
        assert cache.get(prompt("p")) is None


def test_repr_says_where_and_shows_no_content(cache: ResponseCache) -> None:
    cache.put(prompt("secret question"), answer("secret answer"))
    assert repr(cache).startswith(type(cache).__name__)
    assert "default" in repr(cache)
    assert "secret" not in repr(cache)


def test_the_public_names_import_late() -> None:
    import lm_deluge.cache

    assert {SqliteCache, LevelDBCache, DistributedDictCache, MemoryCache, RedisCache, ResponseCache} == {
        getattr(lm_deluge.cache, name) for name in lm_deluge.cache.__all__
    }
    assert sorted(dir(lm_deluge.cache)) == sorted(lm_deluge.cache.__all__)
    with pytest.raises(AttributeError, match="no attribute 'PickleCache'"):
        _ = lm_deluge.cache.PickleCache
