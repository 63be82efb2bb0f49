"""Statistics, pruning, checking and finding, over every store that can be scanned without a server."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge.cache.admin.filters import Filter
from lm_deluge.cache.admin.housekeeping import VerifyReport, drift, find, prune, restore, stats, verify
from lm_deluge.cache.codec import encode
from lm_deluge.cache.entry import Entry, Facts, short_id
from lm_deluge.cache.record import pack_request, unpack_request
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.canonical import conversation_key
from lm_deluge.errors import CacheError, ConfigError
from lm_deluge.events import RunReport
from lm_deluge.prompt import Conversation
from lm_deluge.usage import Usage

from .helpers import answer

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "cache.db")
    yield made
    made.close()


def entry(
    text: str,
    *,
    days: float = 0,
    namespace: str = "default",
    asked: str | None = "alias",
    model: str = "model-1",
    cost: float | None = 0.5,
    **changes: Any,
) -> Entry:
    """An entry that was stored so many days before ``NOW``."""
    prompt = Conversation.user(text)
    key = conversation_key(namespace, prompt.digest)
    packed = pack_request(prompt)
    created = NOW - days * DAY
    facts = Facts(
        created=created,
        asked=asked,
        model=model,
        finish_reason="stop",
        input_tokens=10,
        output_tokens=2,
        cache_read_tokens=0,
        cache_write_tokens=0,
        cost=cost,
    )
    response = msgspec.structs.replace(
        answer(f"answer to {text}"),
        model_internal=asked or "alias",
        model_external=model,
        usage=Usage(input_tokens=10, output_tokens=2),
        cost=cost,
    )
    whole = Entry(
        key=key,
        value=encode(key, response, created=created),
        namespace=namespace,
        request=packed.data,
        refers=packed.refers,
        blobs=packed.blobs,
        facts=facts,
    )
    return msgspec.structs.replace(whole, **changes)


def remaining(store: Any) -> set[bytes]:
    return {stored.key for stored in store.scan()}


# Statistics


def test_everything_is_added_up_and_grouped(store: Any) -> None:
    given = [
        entry("a", days=3),
        entry("b", days=1, model="model-2", cost=None),
        entry("c", days=2, namespace="other", cost=0.25),
    ]
    store.put_many(given)
    found = stats(store)
    assert (found.all.entries, found.all.cost, found.all.unpriced) == (3, 0.75, 1)
    assert found.all.bytes == sum(len(each.value) + len(each.request) for each in given)
    assert found.all.usage == Usage(input_tokens=30, output_tokens=6)
    assert (found.all.oldest, found.all.newest) == (NOW - 3 * DAY, NOW - DAY)
    assert [(group.name, group.entries, group.cost) for group in found.namespaces] == [
        ("default", 2, 0.5),
        ("other", 1, 0.25),
    ]
    assert [(group.name, group.entries, group.unpriced) for group in found.models] == [
        ("model-1", 2, 0),
        ("model-2", 1, 1),
    ]
    assert found.disk_bytes >= found.all.bytes
    assert found.on_disk == isinstance(store, SqliteStore)
    assert stats(store, Filter(namespace="other")).all.entries == 1


def test_nothing_adds_up_to_nothing(store: Any) -> None:
    found = stats(store)
    assert (found.all.entries, found.all.oldest, found.namespaces, found.models) == (0, None, (), ())
    assert found.ledger is not None
    assert found.ledger.runs == 0


def test_accounts_of_runs_are_added_up(store: Any) -> None:
    report = RunReport(prompts=10, hits=4, calls=6, cost=1.5, cost_avoided=0.5, usage=Usage(input_tokens=7))
    store.record_run(Run(id=1, started=NOW - 20, name="one", tags=("x",), report=report))
    store.record_run(Run(id=2, started=NOW - 10, name="two", tags=("x", "y"), report=report))
    store.record_run(Run(id=3, started=NOW))
    store.record_run(Run(id=4, started=NOW - 30, imported=True))
    ledger = stats(store).ledger
    assert ledger is not None
    assert (ledger.runs, ledger.unfinished, ledger.imported) == (4, 1, 1)
    assert (ledger.total.prompts, ledger.total.hits, ledger.total.calls) == (20, 8, 12)
    assert (ledger.total.cost, ledger.total.cost_avoided) == (3.0, 1.0)
    assert ledger.total.usage == Usage(input_tokens=14)
    assert [run.id for run in ledger.latest] == [3, 2, 1, 4]
    one = stats(store, Filter(run="one")).ledger
    tagged = stats(store, Filter(tag="y")).ledger
    assert one is not None
    assert tagged is not None
    assert [run.id for run in (*one.latest, *tagged.latest)] == [1, 2]


# Pruning


def test_what_is_old_goes_and_the_report_says_what_it_would_cost(store: Any) -> None:
    old, older, young = entry("a", days=31), entry("b", days=90, cost=None), entry("c", days=29)
    store.put_many([old, older, young])
    rehearsed = prune(store, older_than=30 * DAY, dry_run=True, now=NOW)
    assert remaining(store) == {old.key, older.key, young.key}, "a rehearsal removes nothing"
    done = prune(store, older_than=30 * DAY, now=NOW)
    assert remaining(store) == {young.key}
    assert msgspec.structs.replace(rehearsed, dry_run=False) == done
    assert (done.entries, done.kept, done.cost, done.unpriced) == (2, 1, 0.5, 1)
    assert done.bytes == sum(len(each.value) + len(each.request) for each in (old, older))


def test_conditions_are_met_together(store: Any) -> None:
    match, other_model, other_namespace, young = (
        entry("a", days=5, namespace="n", model="gpt-4"),
        entry("b", days=5, namespace="n", model="claude"),
        entry("c", days=5, namespace="m", model="gpt-4"),
        entry("d", days=1, namespace="n", model="gpt-4"),
    )
    store.put_many([match, other_model, other_namespace, young])
    prune(store, older_than=2 * DAY, namespace="n", model="gpt-*", now=NOW)
    assert remaining(store) == {other_model.key, other_namespace.key, young.key}


def test_what_was_served_lately_counts_as_used(store: Any) -> None:
    served, forgotten = entry("a", days=50), entry("b", days=50)
    store.put_many([served, forgotten])
    store.touch([served.key], now=NOW - DAY)
    store.put_many([entry("c", days=0)])  # touches are written with it
    prune(store, unused_for=30 * DAY, now=NOW)
    assert served.key in remaining(store)
    assert forgotten.key not in remaining(store)


def test_a_store_that_keeps_no_use_says_so(tmp_path: Path) -> None:
    pytest.importorskip("plyvel")
    with closing(LevelDBStore(tmp_path / "cache")) as store:
        store.put_many([entry("a", days=50)])
        with pytest.raises(ConfigError, match="Use older_than"):
            prune(store, unused_for=30 * DAY, now=NOW)
        assert prune(store, older_than=30 * DAY, now=NOW).entries == 1


def test_only_what_expired_goes(store: Any) -> None:
    over, running, lasting = entry("a", expires=NOW - 1), entry("b", expires=NOW + 1), entry("c")
    store.put_many([over, running, lasting])
    assert prune(store, expired=True, now=NOW).entries == 1
    assert remaining(store) == {running.key, lasting.key}


def test_a_size_is_reached_by_removing_what_was_used_longest_ago(store: Any) -> None:
    given = [entry(f"question {number}" * 50, days=500 - number) for number in range(500)]
    store.put_many(given)
    size = store.usage()["bytes"]
    rehearsed = prune(store, keep_bytes=size // 2, dry_run=True, now=NOW)
    done = prune(store, keep_bytes=size // 2, now=NOW)
    assert rehearsed.entries == pytest.approx(250, abs=3)
    assert done.entries >= rehearsed.entries
    assert 0.9 * size // 2 < store.usage()["bytes"] <= size // 2
    assert done.kept == 500 - done.entries
    assert remaining(store) == {each.key for each in given[done.entries :]}
    assert prune(store, keep_bytes=size, now=NOW).entries == 0


def test_a_prune_without_a_condition_is_refused(store: Any) -> None:
    store.put_many([entry("a")])
    with pytest.raises(ConfigError, match="at least one condition"):
        prune(store)
    assert len(remaining(store)) == 1


# Checking


def test_a_sound_store_has_no_problems(store: Any) -> None:
    store.put_many([entry("a"), entry("long " * 1000)])
    report = verify(store)
    assert (report.entries, report.problems, report.is_sound) == (2, (), True)


def test_damaged_answers_are_found_and_quarantined(store: Any) -> None:
    whole, torn, swapped = entry("a"), entry("b"), entry("c")
    store.put_many(
        [
            whole,
            msgspec.structs.replace(torn, value=torn.value[:-1]),
            msgspec.structs.replace(swapped, value=whole.value),
        ]
    )
    found = verify(store)
    assert (found.entries, found.damaged, found.quarantined, found.is_sound) == (3, 2, 0, False)
    assert {problem.key for problem in found.problems} == {torn.key.hex(), swapped.key.hex()}
    assert len(remaining(store)) == 3, "nothing changes without fix"
    fixed = verify(store, fix=True)
    assert (fixed.damaged, fixed.quarantined, fixed.is_sound) == (2, 2, True)
    assert remaining(store) == {whole.key}
    assert {quarantined.key for quarantined in store.quarantined()} == {torn.key, swapped.key}
    assert verify(store).is_sound


def test_an_answer_whose_request_is_damaged_is_reported_and_goes_on_being_served(store: Any) -> None:
    damaged, whole = entry("a", request=b"\x00nonsense"), entry("b")
    store.put_many([damaged, whole])
    store.touch([damaged.key], now=NOW + 9 * DAY)
    found = verify(store)
    assert (found.damaged, found.requests, found.dropped, found.is_sound) == (0, 1, 0, False)
    assert found.problems[0].served
    assert "the stored request" in found.problems[0].what
    assert "entry" not in found.problems[0].what
    fixed = verify(store, fix=True)
    assert (fixed.entries, fixed.requests, fixed.dropped, fixed.is_sound) == (2, 1, 1, True)
    assert "1 request could not be read; their answers are whole and are still served" in str(fixed)
    assert verify(store) == VerifyReport(entries=2)
    assert store.get_many([damaged.key, whole.key]) == [damaged.value, whole.value]
    assert [one.request for one in store.read([damaged.key, whole.key])] == [b"", whole.request]
    store.put_many([])  # writes when it was used
    assert store.read([damaged.key])[0].used == NOW + 9 * DAY


def test_a_piece_that_requests_share_is_missed(store: Any) -> None:
    long = entry("long " * 1000)
    store.put_many([msgspec.structs.replace(long, blobs={})])
    report = verify(store, fix=True)
    assert (report.requests, report.dropped) == (1, 1)
    assert report.store >= 1, "the store knows of it too"
    assert not report.is_sound
    assert verify(store).is_sound, "nobody needs it any more"


def test_facts_are_compared_with_the_answer_and_put_right(store: Any) -> None:
    right = entry("a")
    wrong = {
        name: msgspec.structs.replace(entry(name), facts=msgspec.structs.replace(right.facts, **{name: value}))
        for name, value in {
            "created": 5.0,
            "cost": 99.0,
            "model": "other",
            "asked": "other",
            "finish_reason": "length",
            "input_tokens": 1,
            "output_tokens": 1,
            "cache_read_tokens": 1,
            "cache_write_tokens": 1,
        }.items()
    }
    unknown = msgspec.structs.replace(entry("b"), facts=Facts(created=NOW))
    store.put_many([right, unknown, *wrong.values()])
    found = verify(store)
    said = {problem.key: problem.what for problem in found.problems}
    assert said == {
        one.key.hex(): f"the store has another {name} than the answer itself" for name, one in wrong.items()
    }
    assert (found.facts, found.is_sound) == (9, False)
    fixed = verify(store, fix=True)
    assert (fixed.facts, fixed.corrected, fixed.is_sound) == (9, 9, True)
    assert verify(store) == VerifyReport(entries=11)
    assert all(one.facts == right.facts for one in store.read([one.key for one in wrong.values()]))
    assert all(one.request for one in store.scan())


# Restoring


def quarantine(store: Any, one: Entry, reason: str) -> None:
    store.put_many([one])
    assert store.quarantine(one.key, one.value, reason)


def test_what_was_quarantined_is_served_again(store: Any) -> None:
    given = entry("long " * 1000, namespace="other")
    store.put_many([entry("a", namespace="more"), entry("b", namespace="other")])
    quarantine(store, given, "rejected")
    assert restore(store, given.key)
    (back,) = store.read([given.key])
    assert (back.value, back.request, back.namespace) == (given.value, given.request, "other")
    assert back.facts == given.facts
    assert unpack_request(back.request, store.read_blobs).conversation == Conversation.user("long " * 1000)
    assert list(store.quarantined()) == []
    assert verify(store).is_sound
    store.delete(given.key)
    assert store.usage()["blobs"] == 0, "its blobs are counted once"


def test_the_newest_that_can_be_read_comes_back_and_the_others_are_kept(store: Any) -> None:
    older, newer = entry("a", days=2), entry("a", days=1)
    quarantine(store, older, "rejected")
    quarantine(store, newer, "rejected")
    quarantine(store, msgspec.structs.replace(newer, value=b"torn"), "damaged")
    assert restore(store, newer.key)
    assert store.get_many([newer.key]) == [newer.value]
    assert [quarantined.value for quarantined in store.quarantined()] == [older.value, newer.value, b"torn"]


def test_nothing_comes_back_over_an_answer_in_service_or_from_nothing(store: Any) -> None:
    older, newer, torn = entry("a", days=2), entry("a", days=1), entry("b", value=b"torn")
    quarantine(store, older, "rejected")
    quarantine(store, torn, "damaged")
    store.put_many([newer])
    assert not restore(store, newer.key)
    assert not restore(store, torn.key)
    assert not restore(store, entry("c").key)
    assert store.get_many([newer.key, torn.key]) == [newer.value, None]
    assert len(list(store.quarantined())) == 2


def test_an_answer_whose_request_is_lost_comes_back_without_it(store: Any) -> None:
    given = entry("a", request=b"nonsense")
    quarantine(store, given, "rejected")
    assert restore(store, given.key)
    assert store.read([given.key])[0].request == b""
    assert store.get_many([given.key]) == [given.value]


def test_what_was_rejected_of_a_base_comes_back_as_ones_own(tmp_path: Path) -> None:
    given = entry("long " * 1000)
    with closing(SqliteStore(tmp_path / "base.db")) as base:
        base.put_many([given])
        with closing(OverlayStore(SqliteStore(tmp_path / "own.db"), base)) as both:
            assert both.quarantine(given.key, given.value, "rejected")
            assert both.get_many([given.key]) == [None]
            assert restore(both, given.key)
            assert both.get_many([given.key]) == [given.value]
            assert verify(both).is_sound


# Drift


def test_names_whose_model_changed_are_told(store: Any) -> None:
    store.put_many(
        [
            entry("a", days=9, asked="m", model="m-1"),
            entry("b", days=7, asked="m", model="m-1"),
            entry("c", days=2, asked="m", model="m-2"),
            entry("d", days=1, asked="steady", model="steady-1"),
            entry("e", days=5, asked="n", model="n-1"),
            entry("f", days=4, asked="n", model="n-2"),
        ]
    )
    moved, earlier = drift(store)
    assert (moved.asked, moved.since) == ("m", NOW - 2 * DAY)
    assert [(each.model, each.entries, each.first, each.last) for each in moved.resolved] == [
        ("m-1", 2, NOW - 9 * DAY, NOW - 7 * DAY),
        ("m-2", 1, NOW - 2 * DAY, NOW - 2 * DAY),
    ]
    assert earlier.asked == "n"


def test_entries_without_the_name_as_a_fact_count_for_none(store: Any) -> None:
    store.put_many([entry("a", asked=None, model="m-1"), entry("b", model="m-2"), entry("c", asked=None, value=b"?")])
    assert drift(store) == ()


# Finding


def keyed(digits: str) -> Entry:
    return Entry(key=bytes.fromhex(digits.ljust(64, "0")), value=b"v")


def test_an_entry_is_found_by_the_beginning_of_its_key(store: Any) -> None:
    store.put_many([keyed("abcd"), keyed("abce"), keyed("0f")])
    assert find(store, "0").key == keyed("0f").key
    assert find(store, " ABCD… ").key == keyed("abcd").key
    assert find(store, keyed("abce").key.hex()).key == keyed("abce").key


def test_answers_to_one_conversation_have_ids_of_their_own(store: Any) -> None:
    keys = [bytes.fromhex("ab" * 32 + parameters * 8) for parameters in ("4b21", "9c07", "0000")]
    store.put_many([Entry(key=key, value=b"v") for key in keys])
    assert [short_id(key) for key in keys] == ["abababab-4b21", "abababab-9c07", "abababab-0000"]
    for key in keys:
        for id in (short_id(key), short_id(key).upper(), f"{short_id(key, 16)}…", f"{key.hex()[:64]}-{key.hex()[64:]}"):
            assert find(store, id).key == key
    assert find(store, "ab-9").key == keys[1]
    with pytest.raises(ConfigError, match="abababababababab-9c07…, "):
        find(store, "abab")
    with pytest.raises(ConfigError, match="No entry has a key that begins with ab-5"):
        find(store, "ab-5")
    with pytest.raises(ConfigError, match="not the beginning of a key"):
        find(store, "-4b21")


def test_a_key_without_parameters_has_an_id_without_them(store: Any) -> None:
    store.put_many([keyed("abcd")])
    assert short_id(keyed("abcd").key) == "abcd0000"
    assert find(store, "abcd0000").key == keyed("abcd").key
    with pytest.raises(ConfigError, match="No entry"):
        find(store, "abcd0000-0")


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("abc", "Several keys begin with abc: abcd000000000000…, abce000000000000…. Give more digits"),
        ("1", "No entry has a key that begins with 1"),
        (hashlib.sha256().hexdigest(), "No entry has a key"),
        ("xyz", "not the beginning of a key"),
        ("0" * 97, "not the beginning of a key"),
        ("", "A key is needed"),
    ],
)
def test_a_beginning_that_tells_no_entry_is_refused(store: Any, prefix: str, message: str) -> None:
    store.put_many([keyed("abcd"), keyed("abce")])
    with pytest.raises(ConfigError) as caught:
        find(store, prefix)
    assert message in str(caught.value)


@pytest.mark.parametrize("work", [stats, drift, verify, lambda store: find(store, "ab")])
def test_a_store_that_cannot_be_scanned_says_so(work: Callable[[Any], Any]) -> None:
    class Opaque:
        blocks = False
        location = "somewhere"

    with pytest.raises(CacheError, match="somewhere cannot list its entries"):
        work(Opaque())
