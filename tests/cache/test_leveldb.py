"""What is particular to LevelDB: an optional dependency, a directory, one process at a time."""

import multiprocessing
import random
import subprocess
import sys
from pathlib import Path

import pytest

from lm_deluge.cache import LevelDBCache
from lm_deluge.cache.codec import compress
from lm_deluge.cache.entry import Blob, Entry, Facts
from lm_deluge.cache.record import refers_of
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.errors import CacheError, CacheFileError, CacheVersionError, CacheWarning
from lm_deluge.testing._store_checks import blob_name, entry, key_of

from .helpers import answer, fingerprints, prompt, run_child

plyvel = pytest.importorskip("plyvel")


def test_without_plyvel_only_its_use_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(ImportError, match="pip install plyvel"):
        LevelDBCache(tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
    check = "import sys; sys.modules['plyvel'] = None; from lm_deluge.cache import LevelDBCache, SqliteCache"
    subprocess.run([sys.executable, "-c", check], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    LevelDBCache(tmp_path / "deep" / "cache").close()
    assert (tmp_path / "deep" / "cache").stat().st_mode & 0o777 == 0o700


def test_a_directory_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    (tmp_path / "CURRENT").write_text("not a database")
    before = fingerprints(tmp_path)
    with pytest.raises(CacheFileError, match=r"thesis\.txt"):
        LevelDBCache(tmp_path)
    assert fingerprints(tmp_path) == before


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheFileError, match="is a file"):
        LevelDBCache(tmp_path / "file")
    with pytest.raises(CacheFileError, match="cannot be made"):
        LevelDBCache(tmp_path / "file" / "below")


def test_another_programs_database_is_refused_with_its_data_intact(tmp_path: Path) -> None:
    database = plyvel.DB(str(tmp_path / "other"), create_if_missing=True)
    database.put(b"their", b"data")
    database.close()
    with pytest.raises(CacheFileError, match="another program"):
        LevelDBCache(tmp_path / "other")
    database = plyvel.DB(str(tmp_path / "other"))
    assert list(database) == [(b"their", b"data")]
    database.close()


def test_a_start_that_was_cut_off_can_be_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    for name in ("LOCK", "LOG", "MANIFEST-000001", "000001.dbtmp"):
        (directory / name).touch()
    with LevelDBCache(directory) as cache:
        cache.put(prompt("p"), answer("x"))
    with LevelDBCache(directory) as cache:
        assert cache.get(prompt("p")) == answer("x")


def test_a_second_process_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with LevelDBCache(tmp_path / "cache") as cache:
        said = run_child("open_leveldb", tmp_path / "cache")
        assert said.startswith("CacheFileError")
        assert "SqliteCache" in said
        cache.put(prompt("p"), answer("x"))


def use_in_child(cache: LevelDBCache) -> None:
    for use in (lambda: cache.get(prompt("p")), lambda: cache.put(prompt("p"), answer("y"))):
        with pytest.raises(CacheError, match="one process at a time"):
            use()
    cache.close()


def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    with LevelDBCache(tmp_path / "cache") as cache:
        cache.put(prompt("p"), answer("x"))
        child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(cache,))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        cache.put(prompt("q"), answer("y"))
    with LevelDBCache(tmp_path / "cache") as cache:
        assert (cache.get(prompt("p")), cache.get(prompt("q"))) == (answer("x"), answer("y"))


def test_damaged_bytes_are_kept_with_the_request(tmp_path: Path) -> None:
    with LevelDBCache(tmp_path / "cache") as cache:
        cache.put(prompt("long " * 1000), answer("x"))
        store, key = cache.backend, cache.key(prompt("long " * 1000))
        assert isinstance(store, LevelDBStore)
        (whole,) = store.read([key])
        assert whole is not None
        store._db.put(b"e" + key, b"\x01broken")
        with pytest.warns(CacheWarning, match="quarantined"):
            assert cache.get(prompt("long " * 1000)) is None
        (kept,) = store.quarantined()
        assert (kept.key, kept.value, kept.request) == (key, b"\x01broken", whole.request)
        assert len(store.read_blobs(list(refers_of(kept.request)))) == 1
        assert list(store.verify()) == []


def test_a_database_of_the_first_format_is_refused(tmp_path: Path) -> None:
    """It had no facts beside its entries. It was never released."""
    database = plyvel.DB(str(tmp_path / "cache"), create_if_missing=True)
    database.put(b"format", b"lm_deluge")
    database.put(b"e" + key_of("a"), b"value")
    database.put(b"r" + key_of("a"), b"request")
    database.close()
    for read_only in (False, True):
        with pytest.raises(CacheVersionError, match=r"first release.*another directory.*deluge cache export"):
            LevelDBStore(tmp_path / "cache", read_only=read_only)


def test_one_damaged_block_costs_what_is_in_it(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    store = LevelDBStore(directory)
    noise = random.Random(0)
    values = {key_of(number): noise.randbytes(2000) for number in range(500)}
    store.put_many([entry(key, value) for key, value in values.items()])
    store._db.compact_range()
    store.close()
    (table,) = directory.glob("*.ldb")
    content = bytearray(table.read_bytes())
    content[100_000:100_100] = bytes(byte ^ 0xFF for byte in content[100_000:100_100])
    table.write_bytes(content)

    store = LevelDBStore(directory)
    found = dict(zip(values, store.get_many(list(values)), strict=True))
    lost = [key for key, value in values.items() if found[key] != value]  # the check within a value shows it
    assert 1 <= len(lost) <= 5
    (said,) = store.verify()
    assert "Corruption" in said
    assert "repair_db" in said
    # What cannot be read can be taken out of service, and stored anew.
    assert store.quarantine(lost[0], found[lost[0]], "damaged") is True
    store.put_many([entry(key, values[key]) for key in lost])
    assert store.get_many(list(values)) == list(values.values())
    store.close()


def test_what_cannot_be_read_is_told_from_what_is_missing(tmp_path: Path) -> None:
    """Bytes flipped where a block says how it is built, so that LevelDB gives nothing back."""
    directory = tmp_path / "cache"
    store = LevelDBStore(directory)
    store.put_many([entry(number, b"compressible" * 1000) for number in range(500)])
    store._db.compact_range()
    store.close()
    (table,) = directory.glob("*.ldb")
    content = bytearray(table.read_bytes())
    content[20_000:60_000] = bytes(byte ^ 0xFF for byte in content[20_000:60_000])
    table.write_bytes(content)
    store = LevelDBStore(directory)
    keys = [key_of(number) for number in range(500)]
    found = store.get_many(keys)
    assert found.count(b"") > 10
    assert None not in found
    assert store.get_many([key_of("missing")]) in ([None], [b""])  # its place may be in such a block
    key = keys[found.index(b"")]
    assert store.quarantine(key, b"", "the store cannot read it") is True
    assert store.get_many([key]) == [None]
    store.put_many([entry(key, b"anew")])
    assert store.get_many([key]) == [b"anew"]
    store.close()


def test_a_missing_and_a_changed_blob_are_reported(tmp_path: Path) -> None:
    store = LevelDBStore(tmp_path / "cache")
    leaf, other = Blob(b"leaf" * 100), Blob(b"other" * 100)
    store.put_many([entry("a", blobs=[leaf]), entry("b", blobs=[other]), entry("c")])
    store._db.delete(b"b" + blob_name(leaf.data))
    store._db.put(b"b" + blob_name(other.data), compress(b"something else"))
    store._db.put(b"i" + key_of("c"), b"\x91\xa1\xff")  # text that is no UTF-8
    assert sorted(store.verify()) == sorted(
        [
            f"blob {blob_name(leaf.data).hex()[:16]}… is missing",
            f"blob {blob_name(other.data).hex()[:16]}… does not hold what its digest says",
            f"the facts of {key_of('c').hex()[:16]}… do not decode",
        ]
    )
    (stored,) = store.read([key_of("c")])
    assert stored is not None
    assert (stored.value, stored.facts) == (b"value", Facts())
    store.close()


def test_a_blob_that_refers_to_itself_ends_nothing(tmp_path: Path) -> None:
    """No honest writer can make one, for a name is the hash of what it names."""
    store = LevelDBStore(tmp_path / "cache")
    name = key_of("hostile")
    hostile = Entry(key=key_of("a"), value=b"value", refers=(name,), blobs={name: Blob(b"data", (name,))})
    store.put_many([hostile])
    assert store.delete_many([hostile.key]) == 1
    store.close()
