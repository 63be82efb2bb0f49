"""DistributedDictCache over every kind of object that people have."""

import asyncio
import inspect
import shelve
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache import DistributedDictCache, ResponseCache
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores import AwaitableStore
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.errors import CacheError, CacheWarning

from .helpers import answer, prompt


class Falsy(dict[str, Any]):
    """Empty, and says so."""

    def __bool__(self) -> bool:
        return False


class GetPut:
    """No more than the documentation asks for."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.data.get(key)

    def put(self, key: str, value: Any) -> None:
        self.data[key] = value


class Modal:
    """Blocking calls that have an awaitable twin in ``aio``. The blocking ones must not be used on an event loop."""

    class _Call:
        def __init__(self, function: Any) -> None:
            self._function = function

        def __call__(self, *args: Any) -> Any:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return self._function(*args)
            raise AssertionError("a blocking call on the event loop")

        async def aio(self, *args: Any) -> Any:
            await asyncio.sleep(0)
            return self._function(*args)

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.get = self._Call(self.data.get)
        self.put = self._Call(self.data.__setitem__)


class Coroutines:
    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        await asyncio.sleep(0)
        return self.data.get(key)

    async def put(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.data[key] = value


class AsyncGetOnly(GetPut):
    async def get(self, key: str) -> Any:
        return self.data.get(key)


def contents(mapping: Any) -> dict[str, Any]:
    return mapping if isinstance(mapping, dict) else mapping.data


ANY = [dict, Falsy, GetPut, Modal, Coroutines, AsyncGetOnly]
BLOCKING = [dict, Falsy, GetPut, Modal]


@pytest.mark.parametrize("kind", ANY)
def test_the_path_of_the_engine(kind: Any) -> None:
    mapping = kind()
    cache = DistributedDictCache(mapping, "project-x")

    async def main() -> None:
        assert (await cache.get_many([prompt("p")]))[0].response is None
        await cache.store(prompt("p"), answer("x"))
        found = await cache.get_many([prompt("p"), prompt("q")])
        assert [outcome.response for outcome in found] == [answer("x"), None]

    asyncio.run(main())
    assert all(type(key) is str and key.startswith("project-x:") for key in contents(mapping))
    assert all(type(value) is bytes for value in contents(mapping).values())


@pytest.mark.parametrize("kind", BLOCKING)
def test_blocking_get_and_put(kind: Any) -> None:
    mapping = kind()
    cache = DistributedDictCache(mapping, cache_key="project-x")
    cache.put(prompt("p"), answer("x"))
    assert cache.get(prompt("p")) == answer("x")
    assert len(contents(mapping)) == 1
    assert cache.delete(prompt("p")) is True
    assert cache.get(prompt("p")) is None
    assert cache.delete(prompt("p")) is False


def test_a_shelf(tmp_path: Path) -> None:
    for attempt in range(2):
        with shelve.open(str(tmp_path / "shelf")) as shelf:
            cache = DistributedDictCache(shelf, "s")
            assert (cache.get(prompt("p")) is None) == (attempt == 0)
            cache.put(prompt("p"), answer("x"))
            assert cache.get(prompt("p")) == answer("x")
            assert all(key.startswith("s:") for key in shelf)


def test_coroutine_functions_have_no_blocking_path() -> None:
    cache = DistributedDictCache(Coroutines())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no coroutine that was never awaited
        with pytest.raises(CacheError, match="coroutine function"):
            cache.get(prompt("p"))
        with pytest.raises(CacheError, match="coroutine function"):
            cache.put(prompt("p"), answer("x"))


HOSTILE = [
    "text",
    7,
    {"a": 1},
    b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x05false\x94\x85\x94R\x94.",
    b"\x01",
    bytearray(b"\x01"),
    [],
    object(),
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("kind", ANY)
def test_values_of_others_are_reported_misses_and_then_gone(kind: Any, value: object) -> None:
    mapping = kind()
    cache = DistributedDictCache(mapping)

    async def main() -> None:
        await cache.store(prompt("p"), answer("x"))
        (name,) = contents(mapping)
        contents(mapping)[name] = value
        (found,) = await cache.get_many([prompt("p")])
        assert found.response is None
        assert found.damage is not None
        if kind is not AsyncGetOnly:
            assert "could not be quarantined" not in found.damage
        assert contents(mapping)[f"{name}:damaged"] is value
        (again,) = await cache.get_many([prompt("p")])
        assert again.damage is again.response is None
        await cache.store(prompt("p"), answer("better"))
        assert (await cache.get_many([prompt("p")]))[0].response == answer("better")

    asyncio.run(main())


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_hostile_values_on_the_blocking_path(value: object) -> None:
    mapping = GetPut()
    cache = DistributedDictCache(mapping)
    cache.put(prompt("p"), answer("x"))
    (name,) = mapping.data
    mapping.data[name] = value
    with pytest.warns(CacheWarning, match="counts as a miss"):
        assert cache.get(prompt("p")) is None
    assert cache.get(prompt("p")) is None  # without a second warning


def test_one_failing_lookup_is_one_miss() -> None:
    class Flaky(dict[str, Any]):
        asked = 0

        def get(self, key: str, default: Any = None) -> Any:
            self.asked += 1
            if self.asked % 2:
                raise (ConnectionError("reset"), StopIteration())[self.asked // 2 % 2]
            return super().get(key)

    class FlakyCoroutines(Coroutines):
        asked = 0

        async def get(self, key: str) -> Any:
            self.asked += 1
            if self.asked % 2:
                raise ConnectionError("reset")
            return await super().get(key)

    for kind in (Flaky, FlakyCoroutines):
        cache = DistributedDictCache(kind())

        async def main(cache: DistributedDictCache = cache) -> list[bool]:
            for number in range(10):
                await cache.store(prompt(number), answer(number))
            found = await cache.get_many([prompt(number) for number in range(10)])
            assert all((outcome.response is None) == (outcome.failure is not None) for outcome in found)
            return [outcome.response is not None for outcome in found]

        assert asyncio.run(main()) == [False, True] * 5


def test_an_object_that_is_down_is_not_asked_for_ever() -> None:
    class Down(dict[str, Any]):
        asked = 0

        def get(self, key: str, default: Any = None) -> Any:
            self.asked += 1
            raise TimeoutError("after 30 s")

    mapping = Down()
    found = asyncio.run(DistributedDictCache(mapping).get_many([prompt(number) for number in range(500)]))
    assert mapping.asked < 10
    assert len(found) == 500
    assert all(outcome.failure is not None for outcome in found)


def test_lookups_side_by_side_are_limited() -> None:
    class Counting(Coroutines):
        now = most = 0

        async def get(self, key: str) -> Any:
            self.now += 1
            self.most = max(self.most, self.now)
            value = await super().get(key)
            self.now -= 1
            return value

    mapping = Counting()
    asyncio.run(DistributedDictCache(mapping).get_many([prompt(number) for number in range(500)]))
    assert 1 < mapping.most <= 64


def test_threads_take_turns_in_an_object_that_is_not_made_for_them() -> None:
    class Fragile(GetPut):
        inside = 0

        def _visit(self) -> None:
            self.inside += 1
            threading.Event().wait(0.0001)  # other threads run meanwhile
            assert self.inside == 1
            self.inside -= 1

        def get(self, key: str) -> Any:
            self._visit()
            return super().get(key)

        def put(self, key: str, value: Any) -> None:
            self._visit()
            super().put(key, value)

    cache = DistributedDictCache(Fragile())

    async def main() -> None:
        _, *looked_up = await asyncio.gather(
            asyncio.gather(*(cache.store(prompt(number), answer(number)) for number in range(100))),
            *(cache.get_many([prompt(number), prompt(number + 1)]) for number in range(100)),
        )
        assert all(outcome.failure is None for found in looked_up for outcome in found)
        found = await cache.get_many([prompt(number) for number in range(100)])
        assert [outcome.response for outcome in found] == [answer(number) for number in range(100)]

    asyncio.run(main())


@pytest.mark.parametrize("thing", [None, 3, "text", [], object(), {1}])
def test_what_is_no_mapping_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match=r"get\(key\) and put\(key, value\)"):
        DistributedDictCache(thing)


@pytest.mark.parametrize("kind", ANY)
def test_quarantine_off_the_event_loop_says_whether_it_did(kind: Any) -> None:
    mapping = kind()
    store = MappingStore(mapping, "s")
    assert isinstance(store, AwaitableStore)
    key, other = bytes(32), b"\xff" * 32

    async def main() -> list[bool]:
        await store.store(Entry(key=key, value=b"good"))
        await store.store(Entry(key=other, value=b"bad"))
        wanted = [(key, b"bad"), (other, b"bad"), (other, b"bad"), (b"m" * 32, None)]
        done = [await store.quarantine_async(name, value, "a test") for name, value in wanted]
        assert [await store.fetch(key), await store.fetch(other)] == [b"good", None]
        return done

    assert asyncio.run(main()) == [False, True, False, False]
    assert contents(mapping)[f"s:{other.hex()}:damaged"] == b"bad"


@pytest.mark.parametrize("kind", [GetPut, Modal, Coroutines])
def test_a_closed_store_is_used_no_more(kind: Any) -> None:
    mapping = kind()
    store = MappingStore(mapping, "s")
    store.close()

    async def main() -> None:
        with pytest.raises(CacheError, match="is closed"):
            await store.fetch(bytes(32))
        with pytest.raises(CacheError, match="is closed"):
            await store.store(Entry(key=bytes(32), value=b"value"))

    asyncio.run(main())
    assert contents(mapping) == {}


def test_closing_leaves_the_object_alone() -> None:
    mapping: dict[str, Any] = {"of": "others"}
    with DistributedDictCache(mapping) as cache:
        cache.put(prompt("p"), answer("x"))
    assert len(mapping) == 2
    assert not inspect.iscoroutinefunction(mapping.get)


def test_an_awaitable_store_on_this_machine_is_waited_for() -> None:
    class Near(MappingStore):
        patience = None  # type: ignore[assignment]

    async def main() -> None:
        with ResponseCache(Near(Modal(), "default")) as cache:
            await cache.store(prompt("p"), answer("x"))
            (found,) = await cache.get_many([prompt("p")])
            assert found.response is not None

    asyncio.run(main())
