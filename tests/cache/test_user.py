"""Caches that users write: they may do anything, and the engine's view of them stays sane."""

import asyncio
import sqlite3
import threading
from typing import Any

import pytest
from blockbuster import BlockBuster

from lm_deluge.cache import MemoryCache
from lm_deluge.cache.for_run import RunCache
from lm_deluge.cache.found import Found, Prompt, RunContext
from lm_deluge.cache.user import UserCache, adapt
from lm_deluge.errors import CacheError, CacheWarning
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse

from .helpers import answer, prompt


def open_cache(cache: object) -> Any:
    opener = adapt(cache)
    assert opener is not None
    return opener(RunContext())


class Plain:
    def __init__(self) -> None:
        self.data: dict[Conversation, Any] = {}
        self.threads: set[int] = set()

    def get(self, prompt: Conversation) -> Any:
        self.threads.add(threading.get_ident())
        return self.data.get(prompt)

    def put(self, prompt: Conversation, response: APIResponse) -> Any:
        self.threads.add(threading.get_ident())
        self.data[prompt] = response


async def storing(cache: UserCache, prompt: Conversation, response: APIResponse) -> None:
    await cache.submit(Prompt(prompt), response, None)


class Async(Plain):
    async def get(self, prompt: Conversation) -> Any:
        await asyncio.sleep(0)
        return super().get(prompt)

    async def put(self, prompt: Conversation, response: APIResponse) -> None:
        await asyncio.sleep(0)
        super().put(prompt, response)


class Falsy(Plain):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("kind", [Plain, Async, Falsy])
def test_what_is_put_is_found(kind: type[Plain]) -> None:
    cache = open_cache(kind())
    assert isinstance(cache, UserCache)

    async def main() -> list[Found]:
        await cache.submit(Prompt(prompt("p")), answer("x"), None)
        return await cache.get_many([Prompt(prompt("q")), Prompt(prompt("p"))])

    assert asyncio.run(main()) == [Found(), Found(answer("x"))]
    assert cache.location == kind.__name__


def test_a_blocking_object_is_called_in_one_thread_that_is_not_the_loops() -> None:
    mine = Plain()
    cache = UserCache(mine)

    async def main() -> None:
        await asyncio.gather(
            *(storing(cache, prompt(number), answer(number)) for number in range(20)),
            *(cache.get_many([Prompt(prompt(number))]) for number in range(20)),
        )

    asyncio.run(main())
    assert len(mine.threads) == 1
    assert threading.get_ident() not in mine.threads


@pytest.mark.parametrize("failure", [ValueError("no"), StopIteration(), KeyError("x"), AssertionError()])
@pytest.mark.parametrize("kind", [Plain, Async])
def test_one_failing_get_is_one_miss(kind: type[Plain], failure: Exception) -> None:
    if kind is Async and isinstance(failure, StopIteration):
        pytest.skip("a coroutine cannot raise StopIteration")

    class Failing(Plain):
        def get(self, wanted: Conversation) -> Any:
            if wanted == prompt("bad"):
                raise failure
            return super().get(wanted)

    class FailingAsync(Async):
        async def get(self, wanted: Conversation) -> Any:
            if wanted == prompt("bad"):
                raise failure
            return await super().get(wanted)

    cache = UserCache(Failing() if kind is Plain else FailingAsync())

    async def main() -> list[Found]:
        async with asyncio.timeout(60):
            await cache.submit(Prompt(prompt("good")), answer("x"), None)
            return await cache.get_many([Prompt(prompt("bad")), Prompt(prompt("good"))])

    bad, good = asyncio.run(main())
    assert good == Found(answer("x"))
    assert bad.response is None
    assert type(failure).__name__ in (bad.failure or "")


@pytest.mark.parametrize("failure", [ValueError("disk full"), StopIteration()])
def test_a_failing_put_raises_and_never_hangs(failure: Exception) -> None:
    class Failing(Plain):
        def put(self, prompt: Conversation, response: APIResponse) -> Any:
            raise failure

    async def main() -> None:
        async with asyncio.timeout(60):
            await UserCache(Failing()).submit(Prompt(prompt("p")), answer("x"), None)

    with pytest.raises(CacheError, match=r"disk full|StopIteration"):
        asyncio.run(main())


@pytest.mark.parametrize("nonsense", ["text", b"bytes", 0, False, {"content": "x"}, [], MemoryCache])
@pytest.mark.parametrize("kind", [Plain, Async])
def test_nonsense_is_a_failed_lookup(kind: type[Plain], nonsense: object) -> None:
    mine = kind()
    mine.data[prompt("p")] = nonsense
    (found,) = asyncio.run(UserCache(mine).get_many([Prompt(prompt("p"))]))
    assert found.response is None
    assert "APIResponse or None is needed" in (found.failure or "")


class Wrapped:
    """Plain functions that give coroutines, as decorators make them."""

    def __init__(self) -> None:
        self.inner = Async()

    def get(self, prompt: Conversation) -> Any:
        return self.inner.get(prompt)

    def put(self, prompt: Conversation, response: APIResponse) -> Any:
        return self.inner.put(prompt, response)


def test_a_put_that_gives_a_coroutine_is_awaited() -> None:
    mine = Wrapped()
    asyncio.run(storing(UserCache(mine), prompt("p"), answer("x")))
    assert mine.inner.data == {prompt("p"): answer("x")}


def test_a_get_that_gives_a_coroutine_says_what_to_do() -> None:
    (found,) = asyncio.run(UserCache(Wrapped()).get_many([Prompt(prompt("p"))]))
    assert "async def" in (found.failure or "")


class OneThread:
    """What ``sqlite3.connect`` gives without ``check_same_thread=False``."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("CREATE TABLE answers (prompt TEXT PRIMARY KEY, answer TEXT)")

    def get(self, prompt: Conversation) -> APIResponse | None:
        row = self._connection.execute("SELECT answer FROM answers WHERE prompt = ?", (prompt.fingerprint,)).fetchone()
        return row and answer(row[0])

    def put(self, prompt: Conversation, response: APIResponse) -> None:
        self._connection.execute("INSERT INTO answers VALUES (?, ?)", (prompt.fingerprint, response.completion))

    def close(self) -> None:
        self._connection.close()


def test_an_object_bound_to_its_thread_is_called_there_with_one_warning(no_blocking: BlockBuster) -> None:
    no_blocking.deactivate()  # waiting on the event loop is what the warning is about
    mine = OneThread()
    cache = UserCache(mine)

    async def main() -> list[Found]:
        await asyncio.gather(*(storing(cache, prompt(number), answer(number)) for number in range(5)))
        return await cache.get_many([Prompt(prompt(3)), Prompt(prompt("none"))])

    with pytest.warns(CacheWarning, match="check_same_thread=False") as warned:
        found = asyncio.run(main())
    assert len(warned) == 1
    assert found == [Found(answer(3)), Found()]
    mine.close()


def test_an_object_bound_to_a_third_thread_fails_and_says_why() -> None:
    mine = OneThread()
    cache = UserCache(mine)
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(storing(cache, prompt("p"), answer("x")))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert [type(failure.__cause__) for failure in failures] == [sqlite3.ProgrammingError]
    mine.close()


def test_adapt_keeps_what_needs_no_help() -> None:
    assert adapt(None) is None
    assert isinstance(open_cache(MemoryCache()), RunCache)


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        ("system_and_tools", "no get and no put.*process_prompts"),
        ({}, "dict has no put.*DistributedDictCache"),
        (object(), "object has no get and no put"),
        (type("Half", (), {"get": lambda self, prompt: None, "put": 3})(), "Half has no put"),
    ],
)
def test_what_cannot_be_a_cache_is_refused_with_a_way_out(thing: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        adapt(thing)
