"""SQLite files: changed bytes of the file, its write-ahead log and journal, and changes by SQL.

A case is JSON: ``sql``, statements; ``edits``, ``log`` and ``journal``, lists of ``[place, bytes in hexadecimal]`` for
the file, its log and its journal; ``cut``, bytes that are left of the file; ``super``, whether the journal names a file
of the user's; ``link``, whether the file is reached by a symbolic link.
"""

import sqlite3
import struct
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import is_reference
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheError

from ...security import hostile
from ...security.test_hostile_files import REFUSED, USED
from ..caching import Use, guarded, program
from ..edits import any_of

SECONDS = 20.0
MEGABYTES = 500
_MAGIC, _PAGE = bytes.fromhex("d9d505f920a163d7"), 4096


def target(data: bytes, tmp: Path) -> list[str]:
    case = program(data)
    with guarded(tmp, "cache.db") as victim:
        path = _written(case, tmp / "cache.db", victim)
        used = Use(str(path), is_sound=_is_sound(path))
        said = [repr(used()), str(is_reference(path))]
        again = used.done("open again", lambda: SqliteCache(path))
        if again is not None:
            used.whole(again)
            again.close()
        over = used.done("base", lambda: SqliteCache(tmp / "cache.db.mine", base=path))
        if over is not None:
            used.run(over)
            over.close()
        return said + used.said()


def _is_sound(path: Path) -> bool:
    """Whether the file's own check finds nothing: where it does, SQLite may lose what is written."""
    try:
        with closing(SqliteStore(path, read_only=True)) as store:
            return not list(store.verify())
    except CacheError:
        return False


def _written(case: dict[str, Any], path: Path, victim: Path) -> Path:
    plain, logged, log = _base()
    wanted = case.get("log")
    path.write_bytes(logged if wanted else plain)
    if isinstance(sql := case.get("sql"), str) and sql and not wanted:
        connecting = closing(sqlite3.connect(path, isolation_level=None))
        with connecting as connection, suppress(sqlite3.Error, ValueError):  # as far as it goes
            connection.executescript(sql)
    content = _changed(path.read_bytes(), case.get("edits"))
    if isinstance(cut := case.get("cut"), int):
        content = content[: abs(cut)]
    path.write_bytes(content)
    if wanted:
        Path(f"{path}-wal").write_bytes(_changed(log, wanted))
    if "journal" in case or case.get("super"):
        journal = _journal(len(content), victim if case.get("super") else None)
        Path(f"{path}-journal").write_bytes(_changed(journal, case.get("journal")))
    if case.get("link"):
        path.rename(path.with_name("cache.db.real"))
        path.symlink_to("cache.db.real")
    return path


def _changed(content: bytes, edits: Any) -> bytes:
    out = bytearray(content)
    for edit in edits if isinstance(edits, list) else ():
        match edit:
            case [int(place), str(text)]:
                try:
                    what = bytes.fromhex(text)
                except ValueError:
                    continue
                place = abs(place) % (len(out) + 1)
                out[place : place + len(what)] = what
    return bytes(out)


def _journal(size: int, victim: Path | None) -> bytes:
    header = (_MAGIC + struct.pack(">IIIII", 0, 1234, size // _PAGE, 512, _PAGE)).ljust(512, b"\0")
    if victim is None:
        return header
    name = str(victim.resolve()).encode()
    return (
        header + struct.pack(">I", 0x40000000 // _PAGE + 1) + name + struct.pack(">II", len(name), sum(name)) + _MAGIC
    )


@cache
def _base() -> tuple[bytes, bytes, bytes]:
    """A good file; the same as it is in use; and the log beside it then."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cache.db")
        with SqliteCache(path) as store:
            for number in range(hostile.PROMPTS):
                store.put(hostile.prompt(number), hostile.answer(number))
            logged, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
        return path.read_bytes(), logged, log


_VALUES = (
    "NULL",
    "''",
    "'x'",
    "-1",
    "9e999",
    "x'ff'",
    "zeroblob(70000)",
    "hex(zeroblob(5000))",
    "9223372036854775807",
    "1.5",
)


def cases() -> st.SearchStrategy[bytes]:
    plain = _base()[0]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(plain[:18] + b"\x01\x01" + plain[20:])  # no log in memory
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
    update = st.builds(
        lambda where, value, few: f"UPDATE {where[0]} SET {where[1]} = {value}{' WHERE rowid % 2' if few else ''};",
        st.sampled_from(columns),
        st.sampled_from(_VALUES),
        st.booleans(),
    )
    schema = st.builds(
        lambda column, value: (
            f"PRAGMA writable_schema = ON; UPDATE sqlite_schema SET {column} = {value} WHERE rowid % 2;"
        ),
        st.sampled_from(["type", "name", "tbl_name", "rootpage", "sql"]),
        st.sampled_from((*_VALUES, "rootpage + 1", "replace(sql, 'key', 'kee')", "sql || ' STRICT'", "1")),
    )
    statement = update | update | schema | any_of(sorted({*REFUSED.values(), *USED.values()}))
    pages = len(plain) // _PAGE
    head = st.builds(lambda page, at: page * _PAGE + at, st.integers(0, pages - 1), st.integers(0, 24))
    place = st.integers(0, 120) | head | st.integers(0, len(plain))
    edits = st.lists(st.tuples(place, st.binary(min_size=1, max_size=6).map(bytes.hex)), min_size=1, max_size=6)
    kinds: list[dict[str, st.SearchStrategy[Any]]] = [
        {"edits": edits},
        {"sql": st.lists(statement, min_size=1, max_size=2).map(" ".join)},
        {"sql": statement, "edits": edits},
        {"log": edits},
        {"cut": st.integers(0, len(plain))},
        {"journal": edits, "super": st.booleans()},
        {"edits": edits, "link": st.just(True)},
    ]
    return st.one_of(*map(st.fixed_dictionaries, kinds)).map(msgspec.json.encode)
