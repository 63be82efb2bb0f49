"""A bundle gives back what it was made from; what many entries share is in it once; any damage shows."""

import gzip
import os
import random
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.cache.admin.archive import Filter, _recent, export, incoming, is_bundle, load, sharing
from lm_deluge.cache.admin.archive import bundle as bundle_format
from lm_deluge.cache.codec import encode
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.redis import RedisStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheFileError, CacheVersionError
from lm_deluge.events import RunReport
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters

from .. import strategies as some
from ..helpers import answer, fingerprints, prompt
from .making import NOW, PARAMETERS, bundle, contents, entry, filled, loaded, resealed

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
LONG = Parameters(model="m", tools=[{"name": "tool", "description": "long " * 400}], extra_body={"x": [1, 2.5, None]})

requests = st.fixed_dictionaries(
    {
        "parameters": st.sampled_from([PARAMETERS, LONG]),
        "scope": st.sampled_from(["conversation", "request"]),
        "sample": st.integers(0, 3),
        "namespace": some.words,
        "expires": st.none() | st.just(NOW + 1),
    }
) | st.fixed_dictionaries({"parameters": st.none()})


@given(st.lists(st.tuples(some.conversations, some.responses, requests), min_size=1, max_size=4))
@settings(deadline=None, max_examples=150)
def test_what_goes_in_comes_out(given_entries: list[tuple[Any, Any, dict[str, Any]]]) -> None:
    store = filled(*(entry(asked, answered, **options) for asked, answered, options in given_entries))
    lines = bundle(store)
    assert all(msgspec.json.decode(line) for line in lines)
    other, report = loaded(lines)
    assert contents(other) == contents(store)
    assert (report.added, report.is_complete, report.unchecked) == (len(store), True, 0)
    _, again = loaded(lines, other)
    assert (again.added, again.identical, again.conflicts) == (0, len(store), 0)


@pytest.fixture(params=["memory", "sqlite", "leveldb", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "sqlite":
        made = SqliteStore(tmp_path / "cache.db")
    elif request.param == "leveldb":
        pytest.importorskip("plyvel")
        made = LevelDBStore(tmp_path / "cache")
    else:
        made = RedisStore(request.getfixturevalue("redis_url"))
    yield made
    made.close()


def chat(turns: int) -> list[Conversation]:
    """A conversation that grows, as an agent's does: the prompt of each of its calls."""
    prompts, whole = [], Conversation.system("Be helpful. " * 500)
    for number in range(turns):
        whole = whole.user(f"Question {number}: {'why? ' * 50}", image=PNG if number == 3 else None)
        prompts.append(whole)
        whole = whole.ai(f"Because {number}.")
    return prompts


def test_every_store_gives_and_takes(store: Any, tmp_path: Path) -> None:
    made = [entry(asked, answer(n), created=NOW + n, expires=NOW * 2) for n, asked in enumerate(chat(12))]
    store.put_many(made)
    export(store, tmp_path / "a.jsonl.gz")
    other, report = MemoryStore(), load(store, tmp_path / "a.jsonl.gz")
    assert report.identical == 12
    load(other, tmp_path / "a.jsonl.gz")
    assert contents(other) == contents(store) == contents(filled(*made))
    store.delete_many([item.key for item in made])
    assert load(store, tmp_path / "a.jsonl.gz").added == 12
    assert contents(store) == contents(other)


def test_what_many_share_is_written_once() -> None:
    prefix = Conversation.system("".join(random.Random(1).choices("abcdefgh ", k=80_000))).user("Look.", image=PNG)
    store = filled(*(entry(prefix.user(f"q{n}"), answer(n), parameters=LONG) for n in range(2_000)))
    lines = bundle(store)
    assert sum(map(len, lines)) < 90_000 + 2_000 * 1_200
    assert loaded(lines)[0].usage() == store.usage()


def test_a_growing_conversation_takes_what_is_new_in_it() -> None:
    grown = chat(200)
    size = sum(map(len, bundle(filled(*(entry(asked, answer(0)) for asked in grown)))))
    assert size < 200 * 5_000  # written out each time it would be 6 MB


def test_the_lines_can_be_read_by_people() -> None:
    stored = msgspec.structs.replace(answer("Vier — 四"), raw_body='{"id": "é"}'.encode())
    line = msgspec.json.decode(bundle(filled(entry(prompt("What is 2+2?"), stored)))[-2])
    assert line["request"]["messages"] == [{"role": "user", "parts": [{"type": "text", "text": "What is 2+2?"}]}]
    assert line["request"]["parameters"]["params"] == {"temperature": 0.5}
    assert line["response"]["content"]["parts"][0]["text"] == "Vier — 四"
    assert line["body"] == '{"id": "é"}'
    assert line["facts"]["cost"] == 0.25
    assert "exact" not in line


def test_what_json_cannot_hold_is_still_exact() -> None:
    odd = msgspec.structs.replace(
        answer("x"), logprobs=[{"token": "x", "logprob": float("-inf")}], raw_body=b"\xff\x00 no text"
    )
    store = filled(entry(prompt("x"), odd))
    assert contents(loaded(bundle(store))[0]) == contents(store)


def test_entries_without_a_request_and_of_unknown_days_travel_too() -> None:
    key = bytes(range(32))
    bare = Entry(key=key, value=encode(key, answer("x")))
    lost = msgspec.structs.replace(entry(Conversation.system("long " * 1_000), answer("y")), blobs={})
    store = filled(bare, lost)
    lines: list[bytes] = []
    report = export(store, lines.append)
    assert (report.entries, report.without_request, report.damaged) == (2, 2, 0)
    assert "missing" in str(report)
    other, imported = loaded(lines)
    assert (imported.added, imported.unchecked, imported.is_complete) == (2, 2, True)
    assert [value[1].response for value in contents(other).values()] == [answer("x"), answer("y")]


def test_damaged_entries_are_left_out_and_named() -> None:
    good, bad = entry(prompt("good"), answer("good")), entry(prompt("bad"), answer("bad"))
    store = filled(good, msgspec.structs.replace(bad, value=bad.value[:-1] + b"?"))
    lines: list[bytes] = []
    report = export(store, lines.append)
    assert (report.entries, report.damaged) == (1, 1)
    assert report.left[0].what == bad.key.hex()
    assert list(contents(loaded(lines)[0])) == [good.key]


def test_a_filter_chooses() -> None:
    store = filled(*(entry(prompt(n), answer(n), created=NOW + n, namespace=f"n{n % 2}") for n in range(10)))
    other, _ = loaded(bundle(store, filter=Filter(namespace="n1", older_than=NOW + 6)))
    assert {value[0] for value in contents(other).values()} == {"n1"}
    assert len(other) == 3


def test_names_and_tags_of_runs_travel_and_their_bills_do_not() -> None:
    run = Run(id=7, started=NOW, name="evening", tags=("eval",), models=("m",), report=RunReport(calls=3, cost=1.0))
    store = filled(entry(prompt("a"), answer("a"), run=7), entry(prompt("b"), answer("b"), run=8))
    store.record_run(run)
    store.record_run(Run(id=9, started=NOW, name="another"))
    other, _ = loaded(bundle(store))
    assert list(other.runs()) == [msgspec.structs.replace(run, report=None, imported=True)]
    other.record_run(run)
    loaded(bundle(store), other)
    assert list(other.runs()) == [run]
    assert not list(loaded(bundle(store), dry_run=True)[0].runs())


# Damage


def some_bundle() -> list[bytes]:
    long = Conversation.system("long " * 300).user("a", image=PNG)
    return bundle(filled(entry(long, answer("a")), entry(long.user("b"), answer("b")), entry(prompt("c"), answer("c"))))


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    lines = some_bundle()
    whole = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    original = contents(loaded(lines)[0])
    if place < len(lines[0]):
        with pytest.raises(CacheFileError):
            loaded([bytes(whole)])
        return
    store, report = loaded([bytes(whole)])
    assert not report.is_complete
    assert contents(store).items() <= original.items()


@given(st.integers(0, 10**9))
@settings(deadline=None, max_examples=100)
def test_a_bundle_that_was_cut_short_is_used_as_far_as_it_goes(place: int) -> None:
    lines = some_bundle()
    whole = b"".join(lines)
    cut = whole[: len(lines[0]) + place % (len(whole) - len(lines[0]) - 1)]
    store, report = loaded([cut])
    assert report.stopped is not None
    good = sum(1 for line in cut.split(b"\n") if line + b"\n" in lines and b'"type":"entry"' in line)
    assert report.added == len(store) == good
    _, finished = loaded(lines, store)
    assert (finished.identical, finished.is_complete) == (good, True)
    assert contents(store) == contents(loaded(lines)[0])


@pytest.mark.parametrize("change", ["drop", "double", "swap", "append"])
def test_lines_that_are_missing_doubled_or_moved_are_noticed(change: str) -> None:
    lines = some_bundle()
    entries = [number for number, line in enumerate(lines) if b'"type":"entry"' in line]
    first, second = entries[:2]
    match change:
        case "drop":
            del lines[second]
        case "double":
            lines.insert(second, lines[second])
        case "swap":
            lines[second], lines[entries[2]] = lines[entries[2]], lines[second]
        case "append":
            lines.append(lines[first])
    _, report = loaded(lines)
    assert not report.is_complete


def test_a_lost_shared_line_costs_the_entries_that_need_it_and_no_others() -> None:
    lines = some_bundle()
    shared = next(number for number, line in enumerate(lines) if b'"type":"message"' in line)
    lines[shared] = lines[shared].replace(b"long", b"lang")
    store, report = loaded(lines)
    assert list(contents(store)) == [entry(prompt("c"), answer("c")).key]
    assert report.refused == 3
    assert f"line {shared + 1}: its checksum does not match" in str(report)
    assert "missing before it" in str(report)


def test_damaged_gzip_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    store = filled(*(entry(prompt(n), answer(os.urandom(500).hex())) for n in range(300)))
    export(store, tmp_path / "a.jsonl.gz")
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    for damaged in (packed[: len(packed) // 2], packed[:-8] + b"\0" * 8):
        (tmp_path / "b.gz").write_bytes(damaged)
        report = load(other := MemoryStore(), tmp_path / "b.gz")
        assert "cannot be read further" in (report.stopped or "")
        assert 0 < report.added <= 300
        assert contents(other).items() <= contents(store).items()


# Files


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_files_are_private_complete_and_compressed_by_their_name(tmp_path: Path, name: str) -> None:
    store = filled(entry(prompt("a"), answer("a")))
    path = tmp_path / name
    for _ in range(2):  # a bundle may be written anew
        export(store, path, now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == [name]
    packed = path.read_bytes()
    assert (gzip.decompress(packed) if name.endswith("gz") else packed) == b"".join(bundle(store))
    assert is_bundle(path)


def test_nothing_else_is_overwritten_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    store, path = filled(entry(prompt("a"), answer("a"))), tmp_path / "cache.db"
    other = SqliteStore(path)
    other.put_many([entry(prompt("b"), answer("b"))])
    other.close()
    before = fingerprints(tmp_path)
    with pytest.raises(CacheFileError, match="no bundle"):
        export(store, path)
    with pytest.raises(CacheFileError, match="cannot be written"):
        export(store, tmp_path / "missing" / "a.jsonl")

    def fail(*_: object) -> Any:
        raise FileNotFoundError("the hook's own")

    with pytest.raises(FileNotFoundError, match="the hook's own"):
        export(store, tmp_path / "a.jsonl", redact=fail)
    assert fingerprints(tmp_path) == before
    assert not is_bundle(path)
    assert not is_bundle(tmp_path)
    assert not is_bundle(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"\n", b"hello\n", b'{"a": 1}\n', b"\x1f\x8b", b"\x1f\x8bxyz", b"\0" * 5000])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(CacheFileError):
        load(MemoryStore(), path)
    assert not is_bundle(path)


def test_a_newer_format_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    lines = some_bundle()
    with pytest.raises(CacheVersionError, match="format 2"):
        loaded([resealed(lines[0], lambda header: {**header, "version": 2}), *lines[1:]])
    with pytest.raises(CacheFileError, match="no bundle"):
        loaded(lines[1:])
    with pytest.raises(CacheFileError, match="cannot be read"):
        load(MemoryStore(), tmp_path / "missing.jsonl")


def test_a_long_message_is_no_longer_than_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_format, "MAX_LINE_BYTES", 5_000)
    store = filled(entry(Conversation.user("x" * 6_000), answer("a")), entry(prompt("b"), answer("b")))
    lines: list[bytes] = []
    report = export(store, lines.append)
    assert (report.entries, report.damaged) == (1, 1)
    assert loaded(lines)[1].is_complete


def test_memory_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = SqliteStore(tmp_path / "cache.db"), SqliteStore(tmp_path / "other.db")
    content = random.Random(2)
    for number in range(60):
        asked = Conversation.user(f"{number}", image=PNG + content.randbytes(500_000))
        store.put_many([entry(asked, answer(number))])
    for module, name in ((_recent, "MAX_BYTES"), (sharing, "_IN_MEMORY"), (incoming, "_BATCH_BYTES")):
        monkeypatch.setattr(module, name, 1024 * 1024)
    path = tmp_path / "a.jsonl"
    assert peak_of(lambda: export(store, path)) < 8_000_000
    assert path.stat().st_size > 40_000_000
    assert peak_of(lambda: load(other, path)) < 12_000_000
    assert other.usage()["blobs"] == 60
    store.close()
    other.close()


def peak_of(action: Callable[[], object]) -> int:
    """Bytes that Python took at most at one time."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
