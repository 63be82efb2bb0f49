"""LevelDB directories: changed bytes, odd keys and values, and files that are none.

A case is JSON: ``put``, pairs of keys and values in hexadecimal; ``edits``, lists of ``[file, place, bytes in
hexadecimal]``; ``cut``, ``[file, bytes left]``; ``links``, pairs of a name and what it is; ``table``, whether there are
tables.
"""

import importlib.util
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from lm_deluge.cache import LevelDBCache
from lm_deluge.cache.admin.archive import is_reference, load_reference
from lm_deluge.cache.stores.memory import MemoryStore

from ...security import hostile
from ...security.test_hostile_stores import ODD
from ..caching import Use, guarded, program
from ..edits import any_of

SECONDS = 20.0
MEGABYTES = 500
_LINKS = ("symbolic", "hard", "dangling", "fifo", "directory")
_NAMES = (
    "LOG", "LOCK", "CURRENT", "LOG.old", "MANIFEST-000002", "MANIFEST-000009",
    *(f"{number:06}.{kind}" for number in range(5, 10) for kind in ("ldb", "log", "dbtmp", "sst")),
)  # fmt: skip


def missing() -> str | None:
    """What has to be installed first."""
    return "plyvel is not installed" if importlib.util.find_spec("plyvel") is None else None


def target(data: bytes, tmp: Path) -> list[str]:
    case = program(data)
    with guarded(tmp, "cache") as victim:
        directory = _written(case, tmp / "cache", victim)
        used = Use(str(directory))
        if is_reference(directory):
            used.done("reference", lambda: str(load_reference(MemoryStore(), directory)))
        for _ in range(2):  # what the first opening has made of it, too
            cache_ = used.done("open", lambda: LevelDBCache(directory))
            if cache_ is not None:
                used.whole(cache_)
                used.done("close", cache_.close)
        return used.said()


def _written(case: dict[str, Any], directory: Path, victim: Path) -> Path:
    directory.mkdir()
    for name, content in _base(bool(case.get("table"))).items():
        (directory / name).write_bytes(content)
    if case.get("put"):
        _put(directory, case["put"])
    files = sorted(path for path in directory.iterdir() if path.name not in ("LOCK", "LOG", "LOG.old"))
    for edit in [*_list(case.get("edits")), *_list(case.get("cut"))]:
        match edit:
            case [int(number), int(place), str(text)]:
                path = files[number % len(files)]
                content = bytearray(path.read_bytes())
                place %= len(content) + 1
                with suppress(ValueError):
                    content[place : place + len(text) // 2] = bytes.fromhex(text)
                path.write_bytes(content)
            case [int(number), int(left)]:
                path = files[number % len(files)]
                path.write_bytes(path.read_bytes()[: abs(left)])
    for link in _list(case.get("links")):
        match link:
            case [str(name), str(kind)] if name in _NAMES:
                _link(directory / name, kind, victim)
    return directory


def _put(directory: Path, pairs: Any) -> None:
    import plyvel

    with plyvel.DB(str(directory)) as database:
        for pair in _list(pairs):
            match pair:
                case [str(key), str(value)]:
                    with suppress(ValueError):
                        database.put(bytes.fromhex(key), bytes.fromhex(value))


def _link(path: Path, kind: str, victim: Path) -> None:
    if path.is_dir():
        return
    path.unlink(missing_ok=True)
    match kind:
        case "symbolic":
            path.symlink_to(victim)
        case "hard":
            path.hardlink_to(victim)
        case "dangling":
            path.symlink_to(victim.with_name("made"))
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@cache
def _base(table: bool) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        with LevelDBCache(folder) as store:
            for number in range(hostile.PROMPTS):
                store.put(hostile.prompt(number), hostile.answer(number))
        if table:
            LevelDBCache(folder).close()  # once more, so that the log has become a table
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def cases() -> st.SearchStrategy[bytes]:
    names = [b"", bytes(32), bytes(40), bytes(64), *(LevelDBCache.__name__.encode(),)]
    key = st.builds(
        lambda kind, name: (bytes([kind]) + name).hex(),
        st.sampled_from(list(b"abdefijlnrz\x00\xff")),
        st.sampled_from(names),
    )
    value = any_of([odd.hex() for odd in ODD]) | st.binary(max_size=40).map(bytes.hex)
    file, place = st.integers(0, 4), st.integers(0, 64) | st.integers(0, 9_000)
    edits = st.lists(st.tuples(file, place, st.binary(min_size=1, max_size=6).map(bytes.hex)), min_size=1, max_size=5)
    kinds: list[dict[str, st.SearchStrategy[Any]]] = [
        {"table": st.booleans(), "edits": edits},
        {"table": st.booleans(), "edits": edits},
        {"table": st.booleans(), "put": st.lists(st.tuples(key, value), min_size=1, max_size=4)},
        {"table": st.booleans(), "cut": st.lists(st.tuples(file, place), min_size=1, max_size=2)},
        {"links": st.lists(st.tuples(st.sampled_from(_NAMES), st.sampled_from(_LINKS)), min_size=1, max_size=2)},
    ]
    return st.one_of(*map(st.fixed_dictionaries, kinds)).map(msgspec.json.encode)
