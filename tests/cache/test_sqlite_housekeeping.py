"""Looking through a file: what it holds, what is wrong with it, what became of it when pages are damaged."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.entry import Entry, Facts
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores import JournalStore, ScanStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheError, CacheFileError, CacheWarning
from lm_deluge.events import RunReport
from lm_deluge.prompt import Conversation
from lm_deluge.testing import FakeClock
from lm_deluge.usage import Usage

from .helpers import answer, blob, entry, fingerprints, finish, key, prompt, start_child


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "cache.db")) as store:
        yield store


FULL = Entry(
    key=key("full"),
    value=b"\x00value",
    namespace="nämé",
    request=b"\x00request",
    facts=Facts(
        created=1.5,
        asked="mini",
        model="mini-2025",
        finish_reason="stop",
        input_tokens=1,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_tokens=4,
        cost=0.125,
        run=2**63 - 1,
    ),
    expires=99.5,
)


def test_an_entry_comes_back_whole(store: SqliteStore) -> None:
    assert isinstance(store, ScanStore)
    store.put_many([FULL, entry("bare", b"")])
    found, missing, bare = store.read([FULL.key, key("missing"), key("bare")])
    assert found is not None
    assert {name: getattr(found, name) for name in ("key", "value", "namespace", "request", "facts", "expires")} == {
        name: getattr(FULL, name) for name in ("key", "value", "namespace", "request", "facts", "expires")
    }
    assert missing is None
    assert bare is not None
    assert (bare.value, bare.request, bare.facts, bare.expires, bare.used) == (b"", b"", Facts(created=1.0), None, None)
    assert list(store.scan()) == [found, bare]


def test_a_scan_takes_any_steps_and_both_directions(store: SqliteStore) -> None:
    store.put_many([msgspec.structs.replace(entry(number), namespace=f"n{number % 3}") for number in range(100)])
    store.put_many([entry(7)])  # stored anew, so the last one
    store.delete_many([key(number) for number in range(50, 60)])
    order = [number for number in range(100) if number not in range(50, 60) and number != 7] + [7]
    for batch in (1, 7, 256):
        assert [one.key for one in store.scan(batch=batch)] == [key(number) for number in order]
        backwards = [one.key for one in store.scan(batch=batch, newest_first=True)]
        assert backwards == [key(number) for number in reversed(order)]
        some = [key(number) for number in order if number % 3 == 2]
        assert [one.key for one in store.scan(namespace="n2", batch=batch)] == some
    assert list(store.scan(namespace="unknown")) == []


def test_a_scan_holds_nobody_up(store: SqliteStore) -> None:
    """Not the writer, not other lookups of this process, and not the emptying of the WAL."""
    store.put_many([entry(number, bytes(2_000)) for number in range(300)])
    seen = 0
    for _ in store.scan(batch=10):
        if seen % 50 == 0:
            store.put_many([entry(f"new {seen}", bytes(2_000))])
            assert store.get_many([key(f"new {seen}")]) == [bytes(2_000)]
            with store._database.writing() as writer:
                busy, _, _ = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0
        seen += 1
    assert seen >= 300


def test_large_entries_are_not_read_by_the_hundred(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put_many([entry(number, bytes(3_000_000)) for number in range(8)])
    scan = store.scan()
    next(scan)
    store.delete_many([key(number) for number in range(8)])
    assert len(list(scan)) == 2  # those that had been read with the first


def test_usage_counts(store: SqliteStore) -> None:
    empty = store.usage()
    assert {name: empty[name] for name in ("entries", "blobs", "quarantined")} == {
        "entries": 0,
        "blobs": 0,
        "quarantined": 0,
    }
    store.put_many([entry(number, os.urandom(1_000), blobs=blob(b"%d" % number)) for number in range(100)])
    (value,) = store.get_many([key(0)])
    assert store.quarantine(key(0), value, "why")
    full = store.usage()
    assert (full["entries"], full["blobs"], full["quarantined"]) == (99, 100, 1)
    assert 100_000 < full["bytes"] - empty["bytes"] < 250_000


def test_what_was_quarantined_comes_the_oldest_first(tmp_path: Path) -> None:
    clock = FakeClock()
    with closing(SqliteStore(tmp_path / "cache.db", clock=clock)) as store:
        for number in range(300):
            store.put_many([entry(number, b"%d" % number)])
            assert not store.quarantine(key(number), b"another", "seen before the put")
            assert store.quarantine(key(number), b"%d" % number, f"reason {number}")
            assert not store.quarantine(key(number), b"%d" % number, "again")
        found = list(store.quarantined())
    assert [(one.key, one.value, one.reason) for one in found] == [
        (key(number), b"%d" % number, f"reason {number}") for number in range(300)
    ]
    assert found[0].when == clock.time()


REPORT = RunReport(
    prompts=10, hits=3, calls=8, errors=1, usage=Usage(input_tokens=5), cost=0.1, cost_avoided=0.30000000000000004
)


def test_the_accounts_of_runs_come_back(store: SqliteStore) -> None:
    assert isinstance(store, JournalStore)
    first = Run(id=2**63 - 1, started=10.25, name="näme", tags=("a", "b,c"), models=("m", "n"), report=REPORT)
    second = Run(id=1, started=20.0)
    store.record_run(first)
    store.record_run(second)
    assert list(store.runs()) == [second, first]
    finished = msgspec.structs.replace(second, report=RunReport(prompts=1))
    store.record_run(finished)
    assert list(store.runs()) == [finished, first]


def test_runs_that_were_imported_are_told_from_killed_ones(store: SqliteStore) -> None:
    killed, imported = Run(id=1, started=2.0), Run(id=2, started=1.0, name="n", imported=True)
    store.record_run(killed)
    store.record_run(imported)
    assert list(store.runs()) == [killed, imported]


def test_a_wal_that_has_grown_is_cut_once_it_is_emptied(store: SqliteStore) -> None:
    wal = Path(f"{store.location}-wal")
    with store._database.transaction() as writer:  # one that keeps the WAL from being emptied until it ends
        for number in range(40):
            writer.execute("INSERT INTO leases VALUES (?, ?, 0)", (key(number), bytes(1_000_000)))
    assert wal.stat().st_size > 30_000_000
    for number in range(3):
        store.put_many([entry(number)])
    assert wal.stat().st_size <= 8 * 1024 * 1024


def test_runs_can_be_read_without_this_package(store: SqliteStore) -> None:
    store.record_run(Run(id=5, started=10.0, name="n", tags=("t",), models=("m",), report=REPORT))
    with closing(sqlite3.connect(store.location)) as connection:
        row = connection.execute(
            "SELECT name, tags ->> 0, models ->> 0, prompts, calls, hits, errors, cost, cost_avoided, "
            "report ->> '$.usage.input_tokens' FROM runs"
        ).fetchone()
    assert row == ("n", "t", "m", 10, 8, 3, 1, 0.1, 0.30000000000000004, 5)


def test_a_damaged_account_shows_what_is_left(store: SqliteStore) -> None:
    store.record_run(Run(id=5, started=10.0, name="n", tags=("t",), report=REPORT))
    with closing(sqlite3.connect(store.location, isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET report = '{\"prompts\": \"many\"}', tags = CAST(x'ff' AS TEXT)")
    assert list(store.runs()) == [Run(id=5, started=10.0, name="n")]


def damage(path: Path, *needles: bytes) -> None:
    """Spoil the pages on which some bytes are."""
    data = bytearray(path.read_bytes())
    for needle in needles:
        page = data.index(needle) // 4_096
        data[page * 4_096 : page * 4_096 + 8] = b"\xff" * 8
    path.write_bytes(data)


def filled(path: Path, count: int = 600) -> None:
    with closing(SqliteStore(path)) as store:
        for start in range(0, count, 50):
            store.put_many([entry(n, b"value %d " % n + bytes(400)) for n in range(start, start + 50)])


def right(n: int) -> bytes:
    return b"value %d " % n + bytes(400)


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_scan_of_a_damaged_file_gives_what_can_be_read(tmp_path: Path, newest_first: bool) -> None:
    path = tmp_path / "cache.db"
    filled(path)
    damage(path, b"value 0 ", b"value 300 ", b"value 599 ")
    with closing(SqliteStore(path)) as store:
        with pytest.warns(CacheWarning, match=r"cannot be read.*verify --rebuild"):
            found = {one.key: one.value for one in store.scan(newest_first=newest_first, batch=64)}
        known = store.get_many([key(n) for n in range(600)])
        assert found == {key(n): value for n, value in enumerate(known) if value}
        assert len(found) > 550
        assert all(found[key(n)] == right(n) for n in range(600) if key(n) in found)
        said = " ".join(store.verify())
    assert "entries cannot be read in 3 places" in said


def test_a_scan_says_so_when_nothing_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    filled(path, 50)
    data = path.read_bytes()
    damage(path, *(b"value %d " % n for n in range(50) if b"value %d " % n in data))
    with closing(SqliteStore(path)) as store, pytest.raises(CacheError, match="No entry"):
        list(store.scan())


def test_verify_finds_nothing_in_a_good_file_and_names_what_is_wrong(store: SqliteStore) -> None:
    store.put_many([entry(n, blobs=blob(b"blob %d" % n)) for n in range(10)])
    assert list(store.verify()) == []
    (gone,) = blob(b"blob 3")
    with closing(sqlite3.connect(store.location, isolation_level=None)) as connection:
        connection.execute("DELETE FROM blobs WHERE digest = ?", (gone,))
        connection.execute("UPDATE entries SET response = 7 WHERE rowid = 5")
    said = list(store.verify())
    assert len(said) == 2
    assert gone.hex()[:16] in said[1]
    assert "entry 5 " in said[0]


def test_verify_never_raises_for_damage(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    filled(path, 100)
    whole = path.read_bytes()
    with closing(SqliteStore(path)) as store:
        store.get_many([key(0)])
        for page in range(len(whole) // 4_096):
            data = bytearray(whole)
            data[page * 4_096 + (100 if page == 0 else 0) : page * 4_096 + 200] = b"\xff" * 200
            path.write_bytes(data)
            assert list(store.verify()), page
        path.write_bytes(b"")
        assert list(store.verify())
        path.unlink()
        assert "There is no cache file" in next(store.verify())
    assert not path.exists()


def test_rebuilding_keeps_all_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    run = Run(id=7, started=1.0, tags=("t",))
    with SqliteCache(path) as cache:
        for number in range(200):
            cache.put(Conversation.system("shared " * 300).user(f"{number} " + "x" * 300), answer(number))
        bad = Conversation.system("quarantined " * 300).user("bad")
        cache.put(bad, answer("bad"))
        store = cache.backend
        assert isinstance(store, SqliteStore)
        last = next(store.scan(newest_first=True))
        assert store.quarantine(last.key, last.value, "rejected")
        store.record_run(run)
        first, middle = list(store.scan())[::100]
        store.touch([first.key], now=9_999_999_999.0)
    path.chmod(0o640)
    damage(path, middle.value)
    inode = path.stat().st_ino
    with closing(SqliteStore(path)) as store:
        assert any(store.verify())
        with pytest.warns(CacheWarning):
            before = {one.key: one for one in store.scan()}
        assert 150 < len(before) < 200
        report = store.rebuild()
        assert report.entries == len(before)
        assert report.lost == 200 - len(before)
        assert list(store.verify()) == []
        assert {one.key: one for one in store.scan()} == before
        assert list(store.runs()) == [run]
        assert [one.reason for one in store.quarantined()] == ["rejected"]
        assert store.usage()["blobs"] >= 2
        store.put_many([entry("after")])
        assert store.get_many([key("after")]) == [b"value"]
    (old,) = [found for found in tmp_path.iterdir() if ".damaged-" in found.name]
    assert old.stat().st_ino == inode
    assert (report.kept, report.kept_bytes) == (str(old), old.stat().st_size)
    assert path.stat().st_mode & 0o777 == 0o640
    assert {found.name for found in tmp_path.iterdir()} == {"cache.db", old.name}


def test_rebuilding_waits_for_nobody_who_has_the_file_open(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    filled(path, 50)
    holder = start_child("hold", path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with closing(SqliteStore(path)) as store:
        with pytest.raises(CacheFileError, match="is in use"):
            store.rebuild()
        finish(holder, "stop\n")
        with closing(SqliteStore(path)) as another:
            another.get_many([key(0)])
            before = fingerprints(tmp_path)
            with pytest.raises(CacheFileError, match="is in use"):
                store.rebuild()
            assert fingerprints(tmp_path) == before
            assert another.get_many([key(0)]) == [right(0)]
        assert store.rebuild().entries == 50
        assert store.get_many([key(0)]) == [right(0)]


@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("cut_within_a_page", [False, True])
def test_a_truncated_file_is_made_anew(tmp_path: Path, left: float, cut_within_a_page: bool) -> None:
    path = tmp_path / "cache.db"
    filled(path)
    pages = int(path.stat().st_size / 4_096 * left)
    os.truncate(path, pages * 4_096 + 1_000 * cut_within_a_page)
    before = fingerprints(tmp_path)
    with pytest.raises(CacheFileError, match=r"deluge cache verify \S+cache.db --rebuild"):
        SqliteStore(path)
    assert fingerprints(tmp_path) == before
    report = SqliteStore.rebuild_file(path, clock=FakeClock())
    kept = Path(report.kept)
    assert fingerprints(tmp_path)[kept.name] == before["cache.db"], "the old file is kept as it was"
    assert {found.name for found in tmp_path.iterdir()} == {"cache.db", kept.name}
    assert report.kept_bytes == kept.stat().st_size
    with closing(SqliteStore(path)) as store:
        assert list(store.verify()) == []
        found = {one.key: one.value for one in store.scan()}
        assert len(found) == report.entries
        assert report.entries > 600 * left / 2
        assert 1 <= report.lost <= 600 - report.entries
        whole = {key(n): right(n) for n in range(600)}
        wrong = [each for each, value in found.items() if value != whole[each]]
        assert len(wrong) <= 8 * cut_within_a_page, "the codec finds what a cut page has made of its entries"


@pytest.mark.parametrize("content", [None, b"", b"a diary", b"SQLite format 3\0" + bytes(4_080), "another program's"])
def test_what_is_not_ours_is_not_rebuilt(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "cache.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE diary (text)")
        os.truncate(path, 4_096)
    before = fingerprints(tmp_path)
    with pytest.raises(CacheFileError, match=r"nothing to rebuild|not a cache"):
        SqliteStore.rebuild_file(path)
    assert fingerprints(tmp_path) == before


def test_the_committed_file_is_made_anew(tmp_path: Path) -> None:
    path = Path(shutil.copy(Path(__file__).parent / "golden" / "format_2.db", tmp_path / "cache.db"))
    with closing(SqliteStore(shutil.copy(path, tmp_path / "copy.db"))) as store:
        wanted = {one.key: one.value for one in store.scan()}
    report = SqliteStore.rebuild_file(path)
    assert (report.entries, report.lost) == (len(wanted), 0)
    with closing(SqliteStore(path)) as store:
        assert {one.key: one.value for one in store.scan()} == wanted
        assert list(store.verify()) == []


def test_columns_are_made_anew_from_the_answers(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with SqliteCache(path) as cache:
        cache.put(prompt("p"), answer("x"))
        store = cache.backend
        assert isinstance(store, SqliteStore)
        (before,) = store.scan()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE entries SET cost = 99, created = 5, model = NULL, input_tokens = 'many'")
        store.rebuild()
        assert list(store.scan()) == [before]


def test_what_was_lost_does_not_uncover_the_base(tmp_path: Path) -> None:
    filled(tmp_path / "own.db")
    with closing(SqliteStore(tmp_path / "base.db")) as base:
        base.put_many([entry(n, b"older") for n in range(600)])
    damage(tmp_path / "own.db", b"value 300 ")
    report = SqliteStore.rebuild_file(tmp_path / "own.db")
    assert report.lost > 0
    with closing(OverlayStore(SqliteStore(tmp_path / "own.db"), SqliteStore(tmp_path / "base.db"))) as both:
        values = both.get_many([key(n) for n in range(600)])
    assert values.count(None) == report.lost
    assert b"older" not in values


def test_a_file_opened_for_reading_only_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with pytest.raises(CacheFileError, match="no cache file"):
        SqliteStore(path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    with SqliteCache(path) as cache:
        cache.put(prompt("p"), answer("x"))
    before, when = fingerprints(tmp_path), path.stat().st_mtime_ns
    with closing(SqliteStore(path, read_only=True)) as store:
        (one,) = store.scan()
        writes = [
            lambda: store.put_many([entry("q")]),
            lambda: store.delete(one.key),
            lambda: store.delete_many([one.key]),
            lambda: store.quarantine(one.key, one.value, "why"),
            lambda: store.acquire([one.key], b"a", now=0.0, seconds=1),
            lambda: store.record_run(Run(id=1, started=0.0)),
            lambda: store.limit(1_000),
            store.rebuild,
        ]
        for write in writes:
            with pytest.raises(CacheFileError, match="for reading only"):
                write()
        store.touch([one.key], now=5.0)
        assert list(store.verify()) == []
    assert (fingerprints(tmp_path), path.stat().st_mtime_ns) == (before, when)


def test_a_reader_sees_what_a_writer_stores_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    filled(path, 50)
    with closing(SqliteStore(path, read_only=True)) as reader:
        assert reader.get_many([key(0), key("new")]) == [right(0), None]
        with closing(SqliteStore(path)) as writer:
            writer.put_many([entry("new")])
            assert reader.get_many([key(0), key("new")]) == [right(0), b"value"]
            writer.delete(key(0))
            assert reader.get_many([key(0), key("new")]) == [None, b"value"]
        assert reader.get_many([key(0), key("new")]) == [None, b"value"]


def test_what_is_closed_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "cache.db")
    store.close()
    uses = [
        lambda: store.get_many([key(0)]),
        lambda: store.put_many([entry(0)]),
        lambda: list(store.scan()),
        lambda: list(store.verify()),
        lambda: list(store.runs()),
        lambda: store.acquire([key(0)], b"a", now=0.0, seconds=1),
        store.rebuild,
    ]
    for use in uses:
        with pytest.raises(CacheError, match="is closed"):
            use()
