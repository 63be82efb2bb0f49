"""SqliteCache and files: what it makes is private, and what is not its own it leaves as it was, byte by byte."""

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.errors import CacheError, CacheFileError, CacheVersionError, ConfigError

from .helpers import answer, fingerprints, finish, kill, prompt, run_child, start_child


@pytest.mark.parametrize("url", ["redis://user:secret@host:6379/0", "rediss://host", "unix:///tmp/socket"])
def test_a_url_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"RedisCache\(url\)") as caught:
        SqliteCache(url)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good cache file, closed in order."""
    path = tmp_path_factory.mktemp("whole") / "cache.db"
    with SqliteCache(path) as cache:
        for number in range(40):
            cache.put(prompt(f"{number} " + "long " * 400), answer(number))
    return path.read_bytes()


def test_what_is_made_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "deep" / "cache.db"
        with SqliteCache(path) as cache:
            cache.put(prompt("p"), answer("x"))
            made = {found.name: mode(found) for found in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert made == {"cache.db": 0o600, "cache.db-wal": 0o600, "cache.db-shm": 0o600}


def test_an_existing_directory_and_file_keep_their_modes(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o755)
    SqliteCache(directory / "cache.db").close()
    (directory / "cache.db").chmod(0o660)  # a deliberate choice of its owner
    SqliteCache(directory / "cache.db").close()
    assert (mode(directory), mode(directory / "cache.db")) == (0o755, 0o660)


def test_missing_and_empty_files_become_caches(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch(mode=0o644)
    for name in ("missing.db", "empty.db"):
        with SqliteCache(tmp_path / name) as cache:
            cache.put(prompt("p"), answer("x"))
        assert SqliteCache(tmp_path / name).get(prompt("p")) == answer("x")
        assert mode(tmp_path / name) == 0o600


@pytest.mark.parametrize(
    "name", ["with space.db", "per%20cent.db", "que?ry=1&mode=ro.db", "ha#sh.db", "ünï.db", "'q\".db"]
)
def test_any_name_is_just_a_name(tmp_path: Path, name: str) -> None:
    with SqliteCache(tmp_path / name) as cache:
        cache.put(prompt("p"), answer("x"))
        assert cache.get(prompt("p")) == answer("x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_relative_path_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with SqliteCache("cache.db") as cache:
        monkeypatch.chdir(tmp_path / "elsewhere")
        cache.put(prompt("p"), answer("x"))
        assert cache.get(prompt("p")) == answer("x")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    monkeypatch.setenv("HOME", str(tmp_path))
    assert SqliteCache("~/cache.db").get(prompt("p")) == answer("x")


def test_settings_without_a_meaning_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"MemoryCache\(\)"):
        SqliteCache(":memory:")
    with pytest.raises(ConfigError, match="NORMAL or FULL"):
        SqliteCache("cache.db", synchronous="OFF; DROP TABLE entries")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_full_synchronous_is_what_sqlite_uses(tmp_path: Path) -> None:
    for synchronous, number in (("NORMAL", 1), ("FULL", 2)):
        with SqliteCache(tmp_path / "cache.db", synchronous=synchronous) as cache:  # type: ignore[arg-type]
            cache.put(prompt("p"), answer("x"))
            writer = cache.backend._database._writer  # type: ignore[attr-defined]
            assert writer.execute("PRAGMA synchronous").fetchone() == (number,)
            assert writer.execute("PRAGMA journal_mode").fetchone() == (b"wal",)


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"SQLite format 3",
        b"SQLite format 3\x00",
        b"hello\n" * 2_000,
        bytes(5_000),
        b"SQLite format 3\x00" + bytes(5_000),
    ],
    ids=["one byte", "cut magic", "magic alone", "text", "zeros", "magic and zeros"],
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(content)
    with pytest.raises(CacheFileError, match=r"left as it is") as caught:
        SqliteCache(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_truncated_cache_is_left_alone(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "cache.db"
    lengths = {1, 15, 16, 99, 100, 101, 511, 512, 4_095, *range(4_096, len(whole), 4_096), len(whole) - 1}
    for length in sorted(lengths | set(range(0, len(whole), 1_777)) - {0}):
        path.write_bytes(whole[:length])
        with pytest.raises(CacheFileError, match=r"truncated|not an SQLite"):
            SqliteCache(path)
        assert path.read_bytes() == whole[:length]
        assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(whole)
    SqliteCache(path).close()


def make_foreign(path: Path, *, wal: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
    connection.execute("CREATE TABLE entries (key BLOB)")
    connection.execute("INSERT INTO entries VALUES ('theirs')")
    return connection


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("application_id", [0, 0x12345678])
def test_another_programs_database_is_left_alone(tmp_path: Path, wal: bool, application_id: int) -> None:
    path = tmp_path / "cache.db"
    with closing(make_foreign(path, wal=wal)) as connection:
        connection.execute(f"PRAGMA application_id = {application_id}")
    before = fingerprints(tmp_path)
    with pytest.raises(CacheFileError, match="not an lm_deluge cache"):
        SqliteCache(path)
    assert fingerprints(tmp_path) == before


@pytest.mark.parametrize("wal", [False, True])
def test_another_programs_open_transaction_is_left_alone(tmp_path: Path, wal: bool) -> None:
    """With its journal beside it, which opening the file for use would roll back."""
    path = tmp_path / "cache.db"
    with closing(make_foreign(path, wal=wal)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA cache_size = 1")
        connection.executemany("INSERT INTO entries VALUES (?)", [(os.urandom(3_000),) for _ in range(20)])
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in tmp_path.iterdir():
            if file.is_file():
                shutil.copy(file, copy)
        beside = fingerprints(copy)
        assert len(beside) > 1
        for directory in (tmp_path, copy):
            before = fingerprints(directory)
            with pytest.raises(CacheFileError, match="not an lm_deluge cache"):
                SqliteCache(directory / "cache.db")
            assert fingerprints(directory) == before
        connection.execute("COMMIT")
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (21,)


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "still in the WAL"])
def test_a_newer_format_is_left_alone(tmp_path: Path, whole: bytes, clean: bool) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(whole)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    if clean:
        connection.close()
    before = fingerprints(tmp_path)
    with pytest.raises(CacheVersionError, match=r"format 3; this one knows 2.*from where you have this one"):
        SqliteCache(path)
    if clean:
        assert fingerprints(tmp_path) == before
    connection.close()


def test_directories_and_odd_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path, says in [
        (tmp_path, "is a directory"),
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "file" / "cache.db", "cannot be read"),
        (tmp_path / "nul\x00l.db", "cannot be read"),
        (Path("/proc/lm_deluge/cache.db"), "cannot be made"),
    ]:
        with pytest.raises(CacheFileError, match=says):
            SqliteCache(path)


def test_no_right_to_write_is_said_at_once(tmp_path: Path, whole: bytes) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (locked / "cache.db").write_bytes(whole)
    (tmp_path / "read-only.db").write_bytes(whole)
    (tmp_path / "read-only.db").chmod(0o444)
    for directory in [tmp_path, *tmp_path.parents][:3]:
        directory.chmod(0o755)
    own = tmp_path / "own"  # a directory that may be written, with a file that may not
    own.mkdir()
    (own / "cache.db").write_bytes(whole)
    (own / "cache.db").chmod(0o444)
    if os.geteuid() == 0:
        os.chown(own, 65534, 65534)
    locked.chmod(0o555)
    try:
        for path in (
            locked / "cache.db",
            locked / "new.db",
            locked / "deep" / "new.db",
            tmp_path / "read-only.db",
            own / "cache.db",
        ):
            before = fingerprints(path.parent) if path.parent.exists() else None
            assert run_child("open_as_nobody", path).startswith("CacheFileError")
            assert before is None or fingerprints(path.parent) == before
    finally:
        locked.chmod(0o755)


def test_no_room_for_a_new_file_is_said_at_once(tmp_path: Path) -> None:
    said = run_child("create_without_room", tmp_path / "cache.db")
    assert said.startswith("CacheFileError")
    assert "disk" in said
    SqliteCache(tmp_path / "cache.db").close()


def test_a_full_disk_loses_the_one_answer_and_no_later_one(tmp_path: Path) -> None:
    said = run_child("fill_up", tmp_path / "cache.db").splitlines()
    assert said[0].startswith("CacheFileError")
    assert "disk" in said[0]
    assert said[1:] == ["True", "True"]
    with SqliteCache(tmp_path / "cache.db") as cache:
        assert cache.get(prompt("large")) is None


def test_processes_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    children = [start_child("construct", tmp_path / "cache.db") for _ in range(8)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        assert finish(child) == "constructed\n"
    cache = SqliteCache(tmp_path / "cache.db")
    assert all(cache.get(prompt(child.pid)) for child in children)


def test_threads_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            with SqliteCache(tmp_path / "cache.db") as cache:
                cache.put(prompt(number), answer(number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    cache = SqliteCache(tmp_path / "cache.db")
    assert [cache.get(prompt(number)) for number in range(8)] == [answer(number) for number in range(8)]


def kill_while_creating(path: Path, rounds: int) -> None:
    for number in range(rounds):
        child = start_child("construct_slowly", f"{path}.{number}")
        assert child.stdout is not None
        last = ""
        for _ in range(1 + number % 7):
            last = child.stdout.readline().strip()
        for target in [last, *kill(child).split()]:
            with SqliteCache(target) as cache:
                cache.put(prompt("p"), answer("x"))
                assert cache.get(prompt("p")) == answer("x")


def test_killed_while_creating(tmp_path: Path) -> None:
    kill_while_creating(tmp_path / "cache.db", 5)


@pytest.mark.long
def test_killed_while_creating_often(tmp_path: Path) -> None:
    kill_while_creating(tmp_path / "cache.db", 200)


def test_every_state_of_a_creation_that_was_cut_off_opens(tmp_path: Path) -> None:
    """The journal is complete, and of the file the first pages are written: what a kill may leave."""
    with SqliteCache(tmp_path / "good.db"):
        pass
    good = (tmp_path / "good.db").read_bytes()
    making = sqlite3.connect(tmp_path / "made.db", isolation_level=None)
    making.execute("PRAGMA cache_size = 1")
    making.execute("BEGIN IMMEDIATE")
    making.execute("CREATE TABLE t (x)")
    making.executemany("INSERT INTO t VALUES (?)", [(bytes(3_000),) for _ in range(20)])
    journal = (tmp_path / "made.db-journal").read_bytes()
    making.execute("ROLLBACK")
    making.close()
    for pages in range(len(good) // 4_096 + 1):
        target = tmp_path / f"cut-{pages}.db"
        target.write_bytes(good[: pages * 4_096])
        Path(f"{target}-journal").write_bytes(journal)
        with SqliteCache(target) as cache:
            cache.put(prompt("p"), answer("x"))
            assert cache.get(prompt("p")) == answer("x")


def test_errors_name_the_file_and_hold_no_content(tmp_path: Path) -> None:
    with SqliteCache(tmp_path / "cache.db") as cache:
        cache.put(prompt("secret"), answer("x"))
        connection = sqlite3.connect(tmp_path / "cache.db")
        connection.execute("DROP TABLE entries")
        connection.commit()
        connection.close()
        for use in (lambda: cache.get(prompt("secret")), lambda: cache.put(prompt("secret"), answer("x"))):
            with pytest.raises(CacheError, match=r"cache\.db cannot be (read|written)") as caught:
                use()
            assert "secret" not in str(caught.value)
