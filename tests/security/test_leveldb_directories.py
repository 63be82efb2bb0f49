"""LevelDB directories of strangers: whatever has a name that LevelDB uses, nothing outside is made or changed."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lm_deluge.cache import LevelDBCache
from lm_deluge.cache.admin.archive import load_reference
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.errors import CacheFileError
from lm_deluge.testing._store_checks import entry, key_of

from ..cache.helpers import answer, fingerprints, prompt, run_child

plyvel = pytest.importorskip("plyvel")

OWN = b"my own lines\n"


def filled(directory: Path) -> Path:
    with LevelDBCache(directory) as cache:
        cache.put(prompt("p"), answer("x"))
    return directory


def last_number(directory: Path) -> int:
    return max(int(number) for child in directory.iterdir() for number in re.findall(r"\d{6}", child.name))


def symbolic(at: Path, victim: Path) -> None:
    at.symlink_to(victim)


def dangling(at: Path, victim: Path) -> None:
    at.symlink_to(victim.with_name("made"))


def hard(at: Path, victim: Path) -> None:
    at.hardlink_to(victim)


def fifo(at: Path, victim: Path) -> None:
    os.mkfifo(at)


def device(at: Path, victim: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    with closing(listener):
        before = Path.cwd()
        os.chdir(at.parent)  # the name of a socket may not be long
        try:
            listener.bind(at.name)
        finally:
            os.chdir(before)


def directory(at: Path, victim: Path) -> None:
    at.mkdir()


WAYS: dict[str, Callable[[Path], object]] = {
    "a cache": lambda place: LevelDBCache(place).close(),
    "a store": lambda place: LevelDBStore(place).close(),
    "reading": lambda place: LevelDBStore(place, read_only=True).close(),
    "import of the reference's": lambda place: load_reference(LevelDBStore(place.with_name("own")), place),
}
NAMES = ("next.log", "next.ldb", "next.sst", "next.dbtmp", "MANIFEST", "CURRENT", "LOG", "LOG.old", "LOCK", "lost")


PUT = [symbolic, dangling, hard, fifo, device, directory]
# A real directory "lost" is made by plyvel.repair_db(); where CURRENT leads nowhere, a reader says that it is missing.
CASES = [
    (name, put) for name in NAMES for put in PUT if (name, put) not in {("lost", directory), ("CURRENT", dangling)}
]


@pytest.mark.parametrize(("name", "put"), CASES)
def test_what_is_no_plain_file_is_refused(tmp_path: Path, name: str, put: Callable[[Path, Path], None]) -> None:
    place = filled(tmp_path / "cache")
    (victim := tmp_path / "victim").write_bytes(OWN)
    if name.startswith("next"):
        names = [f"{number:06d}{name[4:]}" for number in range(last_number(place) + 1, last_number(place) + 4)]
    else:
        names = [next(place.glob("MANIFEST-*")).name if name == "MANIFEST" else name]
    for one in names:
        (place / one).unlink(missing_ok=True)
        put(place / one, victim)
    before = {child.name: child.lstat() for child in place.iterdir()}
    for way, use in WAYS.items():
        with pytest.raises(CacheFileError) as refused:
            use(place)
        assert any(one in str(refused.value) for one in names) or ("reference" in way and name == "CURRENT")
        assert victim.read_bytes() == OWN
        assert not (tmp_path / "made").exists()
        assert {child.name: child.lstat() for child in place.iterdir()} == before


@pytest.mark.parametrize("text", ["../../victim\n", "/etc/passwd", "MANIFEST-000002/../../victim\n", "LOG\n", ""])
def test_current_names_a_manifest_and_nothing_else(tmp_path: Path, text: str) -> None:
    place = filled(tmp_path / "cache")
    (place / "CURRENT").write_text(text)
    before = fingerprints(place)
    for use in WAYS.values():
        with pytest.raises(CacheFileError, match="CURRENT"):
            use(place)
    assert fingerprints(place) == before


def test_reading_leaves_a_directory_as_it_was_and_its_copy_is_private_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = filled(tmp_path / "cache")
    (copies := tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    before = {child.name: (child.lstat().st_mtime_ns, child.read_bytes()) for child in place.iterdir()}
    with closing(LevelDBStore(place, read_only=True)) as store:
        assert len(list(store.scan())) == 1
        assert store.location == str(place)
        assert list(store.verify()) == []
        assert store.usage()["bytes"] == sum(child.stat().st_size for child in place.iterdir())
        (copy,) = copies.iterdir()
        assert stat.S_IMODE(copy.stat().st_mode) == 0o700
        for write in (lambda: store.put_many([entry("a")]), lambda: store.delete(key_of("a"))):
            with pytest.raises(CacheFileError, match="reading only"):
                write()
    assert {child.name: (child.lstat().st_mtime_ns, child.read_bytes()) for child in place.iterdir()} == before
    assert list(copies.iterdir()) == []


def test_a_copy_goes_with_its_store_and_not_with_a_forked_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = filled(tmp_path / "cache")
    (copies := tmp_path / "copies").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    store = LevelDBStore(place, read_only=True)
    child = os.fork()
    if not child:
        try:
            store._let_go()  # as at the end of the interpreter
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert len(list(copies.iterdir())) == 1
    del store
    assert list(copies.iterdir()) == []


def test_a_directory_in_use_is_not_copied(tmp_path: Path) -> None:
    place = filled(tmp_path / "cache")
    with LevelDBCache(place) as cache:
        with pytest.raises(CacheFileError, match="this process has it open"):
            LevelDBStore(place, read_only=True)
        # The lock of the process is still held.
        assert run_child("open_leveldb", place).startswith("CacheFileError")
        cache.put(prompt("q"), answer("y"))
    program = (
        "import sys; from lm_deluge.cache.stores.leveldb import LevelDBStore; store = LevelDBStore(sys.argv[1]); "
        "print(flush=True); sys.stdin.read()"
    )
    environ = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(CacheFileError, match="another process has it open"):
            LevelDBStore(place, read_only=True)
        other.stdin.close()
    LevelDBStore(place, read_only=True).close()


def test_a_copy_for_which_there_is_no_room_is_not_begun(tmp_path: Path) -> None:
    place = filled(tmp_path / "cache")
    with (place / "000099.ldb").open("wb") as file:
        file.truncate(shutil.disk_usage(tempfile.gettempdir()).free + (1 << 30))  # nothing but a hole
    with pytest.raises(CacheFileError, match="TMPDIR"):
        LevelDBStore(place, read_only=True)


def test_a_link_put_there_between_the_look_and_the_opening_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = filled(tmp_path / "cache")
    (victim := tmp_path / "victim").write_bytes(OWN)
    manifest = next(place.glob("MANIFEST-*"))
    look = os.scandir

    def then_replaced(path: int) -> object:
        found = list(look(path))
        manifest.unlink()
        manifest.symlink_to(victim)

        class Children:
            def __enter__(self) -> list[os.DirEntry[str]]:
                return found

            def __exit__(self, *_: object) -> None:
                pass

        for child in found:
            child.stat(follow_symlinks=False)  # what was there
        return Children()

    monkeypatch.setattr("lm_deluge.cache.stores.leveldb.files.os.scandir", then_replaced)
    with pytest.raises(CacheFileError):
        LevelDBStore(place, read_only=True)
    assert victim.read_bytes() == OWN


def test_a_file_that_leveldb_removes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its compaction does so in the background, just after it was opened."""
    place = filled(tmp_path / "cache")
    look = os.scandir

    @contextmanager
    def with_one_more(path: Path | int) -> Iterator[list[os.DirEntry[str]]]:
        (compacted := place / "999999.ldb").touch()
        with look(path) as children:
            found = list(children)
        compacted.unlink()
        yield found

    monkeypatch.setattr("lm_deluge.cache.stores.leveldb.files.os.scandir", with_one_more)
    for read_only in (False, True):
        with closing(LevelDBStore(place, read_only=read_only)) as store:
            assert next(store.scan()).value
