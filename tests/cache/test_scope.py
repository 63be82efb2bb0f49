"""Every answer is stored under the whole request, and scope says how one looks: in every store, and in old files."""

import asyncio
import io
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lm_deluge.cache import DistributedDictCache, MemoryCache, ResponseCache, SqliteCache
from lm_deluge.cache.admin.archive import export, load, rekey
from lm_deluge.cache.assembly import entry_of
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.for_run import RunCache
from lm_deluge.cache.found import Prompt, RunContext
from lm_deluge.cache.record import PackedParameters, pack_request, unpack_request
from lm_deluge.cache.stores import ConversationStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.canonical import conversation_key, conversation_of, entry_key, parameters_of, request_key
from lm_deluge.errors import CacheWarning, ConfigError
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse

from .conftest import Shelf
from .helpers import answer, prompt

ENDPOINT = "https://api.openai.com/v1"
MINI = Parameters(model="gpt-4.1-mini", endpoint=ENDPOINT, params={"temperature": 0.5})
WARM = Parameters(model="gpt-4.1-mini", endpoint=ENDPOINT, params={"temperature": 1.0})
FULL = Parameters(model="gpt-4.1", endpoint=ENDPOINT, tools=[{"name": "look", "description": "d" * 2000}])
SEALED = Parameters(model="gpt-4.1-mini", endpoint=ENDPOINT, extra_headers={"x-session": "ab" * 32}).guarded()

# Written before keys had 48 bytes, by caches of both scopes in two namespaces; it is never written again.
OLD = Path(__file__).parent / "golden" / "format_2_keys.db"


class Time:
    """A clock that is told what time it is."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        self.now += 1
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Both:
    """Two caches over one store, that look in the two ways."""

    def __init__(self, store: object) -> None:
        self.clock = Time()
        self.store: MemoryStore = store  # type: ignore[assignment]
        self.by_conversation = ResponseCache(self.store, clock=self.clock)
        self.by_request = ResponseCache(self.store, scope="request", clock=self.clock)


@pytest.fixture
def both(shelf: Shelf) -> Both:
    if shelf.kind == "mapping":
        pytest.skip("a mapping cannot find conversations")
    return Both(shelf.make().backend)


def entries_of(store: MemoryStore, text: str) -> list[bytes]:
    (found,) = store.find_many([conversation_key("default", prompt(text).digest)], [[]])
    return [key for key, _ in found]


def test_answers_of_two_models_stand_side_by_side(both: Both) -> None:
    cache = both.by_conversation
    cache.put(prompt("p"), answer("mini"), MINI)
    cache.put(prompt("p"), answer("full"), FULL)
    assert cache.get(prompt("p"), MINI) == both.by_request.get(prompt("p"), MINI) == answer("mini")
    assert cache.get(prompt("p"), FULL) == both.by_request.get(prompt("p"), FULL) == answer("full")
    assert cache.get(prompt("p"), WARM) == cache.get(prompt("p")) == answer("full")  # the newest
    assert both.by_request.get(prompt("p"), WARM) is None
    cache.put(prompt("p"), answer("mini again"), MINI)
    assert cache.get(prompt("p"), WARM) == cache.get(prompt("p"), MINI) == answer("mini again")
    assert cache.get(prompt("p"), FULL) == answer("full")
    assert entries_of(both.store, "p") == [cache.key(prompt("p"), MINI), cache.key(prompt("p"), FULL)]


def test_what_one_scope_stored_the_other_one_finds(both: Both) -> None:
    both.by_request.put(prompt("p"), answer("by request"), MINI)
    both.by_conversation.put(prompt("q"), answer("by conversation"), MINI)
    assert both.by_conversation.get(prompt("p")) == answer("by request")
    assert both.by_request.get(prompt("q"), MINI) == answer("by conversation")
    assert both.by_request.get(prompt("q"), WARM) is None


def test_an_answer_of_unknown_parameters_serves_conversations_alone(both: Both) -> None:
    both.by_conversation.put(prompt("p"), answer("direct"))
    assert both.by_conversation.get(prompt("p"), MINI) == answer("direct")
    assert both.by_request.get(prompt("p"), MINI) is None
    assert parameters_of(entries_of(both.store, "p")[0]) is None


def test_samples_do_not_stand_in_for_each_other(both: Both) -> None:
    both.by_conversation.put(prompt("p"), answer("second"), MINI, sample=1)
    assert both.by_conversation.get(prompt("p"), MINI) is None
    assert both.by_request.get(prompt("p"), MINI, sample=1) == answer("second")


def test_a_stale_answer_is_passed_over_for_the_next(both: Both) -> None:
    both.by_conversation.put(prompt("p"), answer("mini"), MINI)
    both.clock.now += 1000
    both.by_conversation.put(prompt("p"), answer("full"), FULL)
    young = ResponseCache(both.store, ttl=500, clock=both.clock)
    assert young.get(prompt("p"), MINI) == answer("full")
    assert ResponseCache(both.store, ttl=500, scope="request", clock=both.clock).get(prompt("p"), MINI) is None
    run = RunCache(both.by_conversation.core, RunContext(parameters=(MINI,), max_age=500))
    (found,) = asyncio.run(run.get_many([Prompt(prompt("p"))]))
    assert (found.response, found.differs) == (answer("full"), True)
    (found,) = asyncio.run(run.get_many([Prompt(prompt("p"))], since=both.clock.now + 1))
    assert found.response is None


def test_a_damaged_answer_is_passed_over_for_the_next(both: Both) -> None:
    both.by_conversation.put(prompt("p"), answer("mini"), MINI)
    both.by_conversation.put(prompt("p"), answer("full"), FULL)
    damage(both.store, both.by_conversation.key(prompt("p"), MINI))
    with pytest.warns(CacheWarning, match="damaged"):
        assert both.by_conversation.get(prompt("p"), MINI) == answer("full")
    assert entries_of(both.store, "p") == [both.by_conversation.key(prompt("p"), FULL)]
    damage(both.store, both.by_conversation.key(prompt("p"), FULL))
    run = RunCache(both.by_conversation.core, RunContext(parameters=(MINI,)))
    (found,) = asyncio.run(run.get_many([Prompt(prompt("p"))]))
    assert found.response is None
    assert found.damage


def damage(store: MemoryStore, key: bytes) -> None:
    (value,) = store.get_many([key])
    assert value is not None
    store.put_many([Entry(key=key, value=value[:-1] + b"?")])


def test_a_run_of_several_models_takes_its_first_one_first(both: Both) -> None:
    for parameters, name in ((MINI, "mini"), (FULL, "full"), (WARM, "warm")):
        both.by_conversation.put(prompt("p"), answer(name), parameters)
    for cache in (both.by_conversation, both.by_request):
        run = RunCache(cache.core, RunContext(parameters=(FULL, MINI)))
        (found, missing) = asyncio.run(run.get_many([Prompt(prompt("p")), Prompt(prompt("q"))]))
        assert (found.response, found.differs, missing.response) == (answer("full"), False, None)
        assert found.entry == cache.key(prompt("p"), FULL)


def test_single_flight_is_about_what_would_be_served(both: Both) -> None:
    keys = [
        RunCache(cache.core, RunContext(parameters=(parameters,))).key(Prompt(prompt("p")))
        for cache in (both.by_conversation, both.by_request)
        for parameters in (MINI, FULL)
    ]
    assert keys[0] == keys[1] == conversation_of(keys[2])
    assert keys[2] != keys[3]


def test_deleting_leaves_nothing_that_a_lookup_could_give(both: Both) -> None:
    for number in range(20):
        parameters = msgspec.structs.replace(MINI, params={"seed": number})
        both.by_conversation.put(prompt("p"), answer(number), parameters)
    one = msgspec.structs.replace(MINI, params={"seed": 3})
    assert both.by_request.delete(prompt("p"), one)
    assert not both.by_request.delete(prompt("p"), one)
    assert both.by_conversation.get(prompt("p")) is not None
    assert both.by_conversation.delete(prompt("p"))
    assert both.by_conversation.get(prompt("p")) is None
    assert not both.by_conversation.delete(prompt("p"))


def test_an_answer_that_is_being_written_is_waited_for_by_others(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "cache.db") as cache:
        mine, other = (RunCache(cache.core, RunContext(parameters=(one,))) for one in (MINI, FULL))

        async def ask() -> None:
            for number in range(20):
                write = mine.submit(Prompt(prompt(number)), answer(number), MINI)
                (found,) = await other.get_many([Prompt(prompt(number))])
                assert found.response == answer(number)
                await write

        asyncio.run(ask())


def test_a_file_is_searched_once_for_many_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_deluge.cache.stores.sqlite import find

    def slow(*arguments: object) -> None:
        raise AssertionError("the way for damaged files was taken")

    monkeypatch.setattr(find, "_readable", slow)
    with SqliteCache(tmp_path / "cache.db") as cache:
        for number in range(300):
            cache.put(prompt(number), answer(number), MINI)
        run = RunCache(cache.core, RunContext(parameters=(FULL,)))
        found = asyncio.run(run.get_many([Prompt(prompt(number)) for number in range(300)]))
        assert [one.response for one in found] == [answer(number) for number in range(300)]
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection:
        plan = connection.execute("EXPLAIN QUERY PLAN " + find._SELECT.format("(?,?),(?,?)"), [b""] * 4).fetchall()
    assert "SEARCH entries USING INDEX sqlite_autoindex_entries_1 (key>? AND key<?)" in str(plan)


# A store that can only get and put


def test_a_mapping_keeps_the_newest_answer_to_a_conversation() -> None:
    mapping: dict[str, bytes] = {}
    cache = DistributedDictCache(mapping, "p")
    cache.put(prompt("p"), answer("mini"), MINI)
    cache.put(prompt("p"), answer("full"), FULL)
    assert list(mapping) == [f"p:{conversation_key('p', prompt('p').digest).hex()}"]
    assert cache.get(prompt("p"), MINI) == cache.get(prompt("p")) == answer("full")


def test_a_mapping_keeps_one_answer_to_a_request() -> None:
    mapping: dict[str, bytes] = {}
    cache = DistributedDictCache(mapping, "p", scope="request")
    cache.put(prompt("p"), answer("mini"), MINI)
    cache.put(prompt("p"), answer("full"), FULL)
    assert next(iter(mapping)) == f"p:{request_key('p', prompt('p').digest, MINI.digest).hex()}"  # as ever
    assert (cache.get(prompt("p"), MINI), cache.get(prompt("p"), FULL)) == (answer("mini"), answer("full"))
    assert cache.get(prompt("p"), WARM) is None
    assert cache.delete(prompt("p"), MINI)
    assert cache.get(prompt("p"), MINI) is None
    run = RunCache(cache.core, RunContext(parameters=(MINI, FULL)))
    (found,) = asyncio.run(run.get_many([Prompt(prompt("p"))]))
    assert found.response == answer("full")


# Two files, one over the other


def test_in_an_overlay_the_own_file_comes_first(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "base.db") as base:
        base.put(prompt("p"), answer("base mini"), MINI)
        base.put(prompt("p"), answer("base warm"), WARM)
    with SqliteCache(tmp_path / "own.db", base=tmp_path / "base.db") as cache:
        assert isinstance(cache.backend, OverlayStore)
        assert isinstance(cache.backend, ConversationStore)
        cache.put(prompt("p"), answer("own full"), FULL)
        assert cache.get(prompt("p"), MINI) == answer("base mini")
        assert cache.get(prompt("p")) == answer("own full")
        cache.put(prompt("p"), answer("own mini"), MINI)
        assert cache.get(prompt("p"), MINI) == answer("own mini")
        assert cache.delete(prompt("p"))
        assert cache.get(prompt("p")) is None
    with SqliteCache(tmp_path / "base.db") as base:
        assert base.get(prompt("p"), MINI) == answer("base mini")


def test_in_an_overlay_the_base_has_what_the_own_file_has_only_too_old_or_of_another_model(tmp_path: Path) -> None:
    clock = Time()
    with SqliteCache(tmp_path / "own.db", clock=clock) as cache:
        cache.put(prompt("p"), answer("own mini"), MINI)
    clock.now += 1000
    with SqliteCache(tmp_path / "base.db", clock=clock) as base:
        base.put(prompt("p"), answer("base full"), FULL)
    with SqliteCache(tmp_path / "own.db", base=tmp_path / "base.db", clock=clock) as cache:
        young = RunCache(cache.core, RunContext(parameters=(MINI,), max_age=500))
        several = RunCache(cache.core, RunContext(parameters=(FULL, MINI)))
        for run in (young, several):
            (found,) = asyncio.run(run.get_many([Prompt(prompt("p"))]))
            assert found.response == answer("base full")


# A server that drops what has expired


def test_in_redis_others_are_found_as_long_as_they_last(redis_url: str) -> None:
    from lm_deluge.cache.stores.redis import RedisStore

    with closing(RedisStore(redis_url)) as store:
        short = ResponseCache(store, ttl=0.4)
        lasting = ResponseCache(store)
        lasting.put(prompt("p"), answer("mini"), MINI)
        short.put(prompt("p"), answer("full"), FULL)
        assert lasting.get(prompt("p"), WARM) == answer("full")
        time.sleep(0.5)
        assert lasting.get(prompt("p"), WARM) == answer("mini")
        short.put(prompt("q"), answer("full"), FULL)
        ResponseCache(store, ttl=1000).put(prompt("q"), answer("mini"), MINI)
        short.put(prompt("q"), answer("warm"), WARM)
        time.sleep(0.5)
        assert lasting.get(prompt("q"), WARM) == answer("mini")
        short.put(prompt("r"), answer("full"), FULL)
        time.sleep(0.5)
        left = [name for name in store._used.scan(b"*newest*", 100) for name in name]
        assert len(left) == 2  # of "p" and "q"


def seeded(number: int) -> Parameters:
    return msgspec.structs.replace(MINI, params={"seed": number})


def test_in_redis_more_answers_than_are_noted_are_deleted_and_rejected_like_few(redis_url: str) -> None:
    from lm_deluge.cache.stores.redis import RedisStore

    with closing(RedisStore(redis_url)) as store:
        both = Both(store)
        for name in ("deleted", "rejected", "other"):
            for number in range(12):
                both.by_conversation.put(prompt(name), answer(number), seeded(number))
        assert both.by_conversation.delete(prompt("deleted"))
        assert not both.by_conversation.delete(prompt("deleted"))
        assert [both.by_request.get(prompt("deleted"), seeded(number)) for number in range(12)] == [None] * 12
        for number in range(11, -1, -1):
            found = both.by_conversation.get(prompt("rejected"), MINI)
            assert found == answer(number)
            entry = both.by_conversation.key(prompt("rejected"), seeded(number)).hex()
            assert both.by_conversation.reject(msgspec.structs.replace(found, entry=entry))
        assert both.by_conversation.get(prompt("rejected"), MINI) is None
        assert both.by_conversation.get(prompt("other"), MINI) == answer(11)


def test_in_redis_the_newest_is_found_whatever_was_stored_after_it(redis_url: str) -> None:
    from lm_deluge.cache.stores.redis import RedisStore

    with closing(RedisStore(redis_url)) as store:
        both = Both(store)
        both.clock.now += 1000
        both.by_conversation.put(prompt("p"), answer("newest"), FULL)
        both.clock.now -= 1000
        for number in range(12):
            both.by_conversation.put(prompt("p"), answer(number), seeded(number))
        assert both.by_conversation.get(prompt("p"), MINI) == answer("newest")
        (found,) = store.find_many([conversation_key("default", prompt("p").digest)], [[]])
        expected = [FULL, *(seeded(number) for number in range(11, 4, -1))]
        assert [key for key, _ in found] == [both.by_conversation.key(prompt("p"), one) for one in expected]


# How to look where nothing is said


def test_the_environment_says_how_to_look_where_no_argument_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LM_DELUGE_CACHE_SCOPE", "request")
    assert MemoryCache().core.scope == "request"
    assert MemoryCache(scope="conversation").core.scope == "conversation"
    monkeypatch.setenv("LM_DELUGE_CACHE_SCOPE", "")
    assert MemoryCache().core.scope == "conversation"
    monkeypatch.setenv("LM_DELUGE_CACHE_SCOPE", "prompt")
    assert MemoryCache(scope="request").core.scope == "request"
    with pytest.raises(ConfigError, match="LM_DELUGE_CACHE_SCOPE='prompt'"):
        MemoryCache()
    monkeypatch.delenv("LM_DELUGE_CACHE_SCOPE")
    assert MemoryCache().core.scope == "conversation"
    with pytest.raises(ConfigError, match="scope='prompt'"):
        MemoryCache(scope="prompt")  # type: ignore[arg-type]


# Files of older versions


@pytest.fixture
def old(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(shutil.copy(OLD, tmp_path / "cache.db"))) as store:
        yield store


ASKED = [(MINI, "mini"), (WARM, "warm"), (FULL, "full"), (SEALED, "sealed")]
LONG = Conversation.system("You are terse. " * 200)


def text(found: APIResponse | None) -> str | None:
    return None if found is None else found.completion


def test_an_old_file_is_looked_up_by_conversation_without_more_ado(old: SqliteStore) -> None:
    for name in ("default", "project-x"):
        cache = ResponseCache(old, cache_key=name)
        assert text(cache.get(prompt("direct"))) == text(cache.get(prompt("direct"), MINI)) == f"{name} direct"
        assert text(cache.get(LONG.user("only mini"), FULL)) == f"{name} only mini"
        assert [text(cache.get(prompt("several"), sample=n)) for n in range(3)] == [
            f"{name} several {n}" for n in range(3)
        ]
        assert text(cache.get(prompt("both"), FULL)) == f"{name} both, looked up by conversation"
        assert text(cache.get(prompt("sealed"), MINI)) == f"{name} sealed"


def test_an_old_answer_to_a_conversation_is_served_to_the_same_request(old: SqliteStore) -> None:
    cache = ResponseCache(old, scope="request")
    assert text(cache.get(LONG.user("only mini"), MINI)) == "default only mini"
    assert text(cache.get(LONG.user("only full"), FULL)) == "default only full"
    assert cache.get(LONG.user("only mini"), WARM) is None
    assert cache.get(prompt("direct"), MINI) is None
    assert cache.get(prompt("sealed"), SEALED) is None  # of headers, nothing tells that they are the same


@pytest.mark.parametrize(
    "other", [{"endpoint": "http://localhost:8000/v1"}, {"extra_headers": {"anthropic-beta": "ab" * 32}}]
)
def test_an_old_answer_of_another_place_is_none_to_the_same_request(
    other: dict[str, object],
) -> None:
    there = msgspec.structs.replace(MINI, **other)
    store = MemoryStore()
    entry = entry_of(
        conversation_key("default", prompt("p").digest),
        answer("there"),
        pack_request(prompt("p"), PackedParameters.of(there, "conversation")),
        namespace="default",
        created=1.0,
        fingerprint=there.fingerprint,
    )
    store.put_many([entry])
    cache = ResponseCache(store, scope="request")
    assert cache.get(prompt("p"), MINI) is None
    assert not cache.explain(prompt("p"), [MINI]).hit
    assert text(ResponseCache(store).get(prompt("p"), MINI)) == "there"
    rekey(store)
    assert cache.get(prompt("p"), MINI) is None
    assert text(cache.get(prompt("p"), there)) == "there"


def test_an_old_answer_to_the_same_request_goes_before_newer_ones_to_others(old: SqliteStore) -> None:
    cache = ResponseCache(old)
    cache.put(LONG.user("only mini"), answer("newer"), FULL)
    assert text(cache.get(LONG.user("only mini"), MINI)) == "default only mini"
    assert text(cache.get(LONG.user("only mini"), WARM)) == "newer"


def check_rekeyed(store: SqliteStore | MemoryStore) -> None:
    for name in ("default", "project-x"):
        cache = ResponseCache(store, cache_key=name, scope="request")
        for parameters, model in ASKED:
            assert text(cache.get(prompt("both"), parameters)) == f"{name} both {model}"
            assert text(cache.get(LONG.user("by request"), parameters)) == f"{name} by request {model}"
            for n in range(2):
                found = cache.get(prompt("samples by request"), parameters, sample=n)
                assert text(found) == f"{name} samples {model} {n}"
        assert text(cache.get(LONG.user("only full"), FULL)) == f"{name} only full"
        assert [text(cache.get(prompt("several"), MINI, sample=n)) for n in range(3)] == [
            f"{name} several {n}" for n in range(3)
        ]
        assert cache.get(LONG.user("only full"), MINI) is None
        found = ResponseCache(store, cache_key=name)
        assert text(found.get(prompt("direct"))) == f"{name} direct"
        assert text(found.get(prompt("sealed"))) == f"{name} sealed"


def test_an_old_file_is_carried_over(old: SqliteStore) -> None:
    assert all(len(stored.key) == 32 for stored in old.scan())
    paid = {text(decode(stored.key, stored.value).response) for stored in old.scan()}
    dry = rekey(old, dry_run=True)
    report = rekey(old)
    assert msgspec.structs.replace(dry, dry_run=False) == report
    # Of "both", the answer that was looked up by conversation was one to the same request as a newer one.
    assert (report.moved, report.conflicts, report.damaged, report.without_request) == (48, 2, 0, 0)
    check_rekeyed(old)
    assert all(len(stored.key) == 48 for stored in old.scan())
    kept = {text(decode(quarantined.key, quarantined.value).response) for quarantined in old.quarantined()}
    assert kept == {f"{name} both, looked up by conversation" for name in ("default", "project-x")}
    assert kept | {text(decode(stored.key, stored.value).response) for stored in old.scan()} == paid
    assert rekey(old).right == 46
    assert list(old.verify()) == []
    # What seals the headers is in the key, and not in what is stored of the request any more.
    requests = [unpack_request(stored.request, old.read_blobs) for stored in old.scan()]
    assert all(request.parameters is None or request.parameters.sealed is None for request in requests)


@pytest.mark.parametrize("method", ["put_if_unchanged", "delete_many", "quarantine"])
def test_carrying_over_may_be_interrupted(old: SqliteStore, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paid = {text(decode(stored.key, stored.value).response) for stored in old.scan()}

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(old, method, stop)
        with pytest.raises(KeyboardInterrupt):
            rekey(old)
    everything = [*old.scan(), *old.quarantined()]
    assert {text(decode(one.key, one.value).response) for one in everything} == paid
    rekey(old)
    check_rekeyed(old)


def test_renaming_keeps_what_only_the_key_says(old: SqliteStore) -> None:
    rekey(old)
    rekey(old, namespace_from="project-x", namespace_to="project-y")
    cache = ResponseCache(old, cache_key="project-y", scope="request")
    assert text(cache.get(prompt("both"), SEALED)) == "project-x both sealed"
    assert ResponseCache(old, cache_key="project-x").get(prompt("both")) is None


@pytest.mark.parametrize("first", [False, True])
def test_bundles_carry_both_kinds_of_keys(old: SqliteStore, first: bool) -> None:
    if first:
        rekey(old)
    lines: list[bytes] = []
    export(old, lines.append)
    other = MemoryStore()
    report = load(other, io.BytesIO(b"".join(lines)))
    assert report.is_complete
    if first:
        assert {stored.key for stored in other.scan()} == {stored.key for stored in old.scan()}
        check_rekeyed(other)
    else:
        assert all(len(stored.key) == 48 for stored in other.scan())
        assert ResponseCache(other, scope="request").get(prompt("both"), FULL) == answer_of("default both full", FULL)


def answer_of(said: str, parameters: Parameters) -> APIResponse:
    found = msgspec.structs.replace(answer(said), model_internal=parameters.model)
    usage = msgspec.structs.replace(found.usage, cache_read_tokens=0, cache_write_tokens=0)
    return msgspec.structs.replace(found, model_external=f"{parameters.model}-2025-04-14", usage=usage)


def test_keys_are_what_they_were() -> None:
    digest = prompt("p").digest
    conversation = conversation_key("default", digest)
    assert conversation.hex() == "4e74ebf8a8a72ddd306953e50acbb7641d59525bb484a86cb0c90fb07df5cbb1"
    assert entry_key(conversation, MINI.digest).hex() == (
        "4e74ebf8a8a72ddd306953e50acbb7641d59525bb484a86cb0c90fb07df5cbb1a4f32a9adf2145cf219fe881796bf1c0"
    )
    assert entry_key(conversation, None) == conversation + bytes(16)
    assert entry_key(conversation, MINI.digest[:16]) == entry_key(conversation, MINI.digest)
    assert (
        request_key("default", digest, MINI.digest, 2).hex()
        == "f0d3015b57d574a9fabf027ed9fb6a216c4ba476dc0c4cb895049d70a4c7b0ae"
    )
    assert (
        conversation_key("default", digest, 2).hex()
        == "7038c4ecbad600b44b139e179a7017eccb9b5ba78f351a1702f80fa1118e7c25"
    )
