"""Entries are moved and added while other programs store: no answer of theirs is overwritten."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache.admin.archive import rekey
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.overlay import OverlayStore
from lm_deluge.cache.stores.redis import RedisStore
from lm_deluge.cache.stores.sqlite import SqliteStore

from ..helpers import answer, prompt
from .making import NOW, bundle, contents, entry, filled, loaded


def _overlay(path: Path) -> OverlayStore:
    SqliteStore(path / "base.db").close()
    return OverlayStore(SqliteStore(path / "own.db"), SqliteStore(path / "base.db", read_only=True))


def _leveldb(path: Path) -> LevelDBStore:
    pytest.importorskip("plyvel")
    return LevelDBStore(path / "cache")


MAKERS: dict[str, Callable[[Path], Any]] = {
    "memory": lambda path: MemoryStore(),
    "sqlite": lambda path: SqliteStore(path / "cache.db"),
    "leveldb": _leveldb,
    "overlay": _overlay,
    "redis": lambda path: None,
}


@pytest.fixture(params=MAKERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "redis":
        made: Any = RedisStore(request.getfixturevalue("redis_server").url, prefix=str(tmp_path))
    else:
        made = MAKERS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def meanwhile(store: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Entry], None]:
    """Have another program store an entry as soon as its key has been looked up once."""

    def arrange(given: Entry) -> None:
        look, waiting = store.get_many, [given]

        def looks(keys: Any) -> Any:
            found = look(keys)
            if waiting and given.key in keys:
                store.put_many([waiting.pop()])
            return found

        monkeypatch.setattr(store, "get_many", looks)

    return arrange


def completions(store: Any) -> list[str]:
    return [found[1].response.completion for found in contents(store).values()]


def quarantined(store: Any) -> list[bytes]:
    return [one.value for one in store.quarantined()]


def of_new(name: str, days: float, **options: Any) -> Entry:
    return entry(prompt("a"), answer(name), namespace="new", created=NOW + days, **options)


@pytest.mark.parametrize("has_rival", [False, True])
def test_rekey_keeps_a_newer_answer(store: Any, meanwhile: Callable[[Entry], None], has_rival: bool) -> None:
    old = entry(prompt("a"), answer("old"), namespace="old", created=NOW)
    store.put_many([old, *([of_new("oldest", -1)] if has_rival else [])])
    meanwhile(of_new("newer", 1))
    report = rekey(store, namespace_from="old", namespace_to="new")
    assert completions(store) == ["newer"]
    assert old.value in quarantined(store)
    assert (report.moved, report.conflicts) == (1, 1)


def test_rekey_quarantines_an_older_answer(store: Any, meanwhile: Callable[[Entry], None]) -> None:
    store.put_many([entry(prompt("a"), answer("old"), namespace="old", created=NOW)])
    rival = of_new("older still", -1)
    meanwhile(rival)
    report = rekey(store, namespace_from="old", namespace_to="new")
    assert completions(store) == ["old"]
    assert quarantined(store) == [rival.value]
    assert (report.moved, report.conflicts) == (1, 1)


def test_import_keeps_what_came_meanwhile(store: Any, meanwhile: Callable[[Entry], None]) -> None:
    lines = bundle(filled(of_new("of the bundle", 0), entry(prompt("b"), answer("b"))))
    meanwhile(of_new("meanwhile", 1))
    _, report = loaded(lines, store)
    assert sorted(completions(store)) == ["b", "meanwhile"]
    assert (report.added, report.conflicts, report.replaced) == (1, 1, 0)


def test_import_that_must_not_meet_another_answer_stops(store: Any, meanwhile: Callable[[Entry], None]) -> None:
    lines = bundle(filled(of_new("of the bundle", 0)))
    meanwhile(of_new("meanwhile", 1))
    _, report = loaded(lines, store, on_conflict="fail")
    assert completions(store) == ["meanwhile"]
    assert report.added == 0
    assert report.stopped
    assert not report.is_complete
