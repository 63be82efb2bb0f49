"""Answers that were paid for with PyPI ``lm-deluge`` 0.0.138.

``golden/reference_0_0_138.db`` was written by that package. ``make_reference.py`` made all that is in it, and says how.
It has 17 prompts, each under the cache keys ``default`` and ``a:b``: seven are whole and worth keeping.
"""

import contextlib
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import is_bundle, is_reference, load_reference
from lm_deluge.cache.stores.leveldb import LevelDBStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheFileError
from lm_deluge.prompt import Conversation, Message, ToolCall
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

from ..helpers import answer, fingerprints, prompt
from .making import REFERENCE, contents, entry, filled, leveldb_reference

CALL = ToolCall("call_1", "weather", {"city": "Paris", "days": 2})
LEFT_OUT = {
    "an image or a file is stored as a placeholder": 4,
    "a tool's result is stored as a placeholder": 2,
    "thinking is stored without its signature": 4,
    "log probabilities were asked for, and are not stored": 2,
    "the prompt has no messages": 2,
    "an error, a refusal, or an answer with nothing in it": 6,
}


@pytest.mark.parametrize("namespace", ["default", "a:b"])
def test_whole_prompts_are_hits_here(tmp_path: Path, namespace: str) -> None:
    before = fingerprints(REFERENCE.parent)
    store = SqliteStore(tmp_path / "cache.db")
    report = load_reference(store, REFERENCE)
    store.close()
    assert fingerprints(REFERENCE.parent) == before
    assert report.added == 14
    assert report.left_out == LEFT_OUT

    with SqliteCache(tmp_path / "cache.db", namespace) as cache:

        def get(*messages: Message) -> APIResponse:
            found = cache.get(Conversation(messages))
            assert found is not None
            return found

        user, ai = Message.user, Message.ai
        first = get(user("What is 2+2?"))
        assert first.content == ai("4")
        assert (first.model_internal, first.model_external) == ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14")
        assert (first.finish_reason, first.status_code) == ("stop", 200)
        # The API counted 100 prompt tokens, 40 of them read from its cache.
        assert first.usage == Usage(input_tokens=60, output_tokens=7, cache_read_tokens=40)
        # At $0.40, $0.10 and $1.60 for a million tokens.
        assert first.cost == pytest.approx(60 * 0.4e-6 + 40 * 0.1e-6 + 7 * 1.6e-6)
        assert get(Message.system("Be brief."), user("Zwölf — 十二?"), ai("12"), user("\r\n\0 ")).completion == "douze"
        assert get(user("two parts: ").with_text("and the second")).completion == "both"
        assert get(user("Weather in Paris?")).tool_calls == [CALL]
        asked = Conversation.user("Weather?").add(Message("assistant", [CALL])).with_tool_result("call_1", "sunny")
        assert get(*asked.messages).completion == "Sunny."
        cut = get(user("A long one"))
        assert (cut.finish_reason, cut.model) == ("length", "claude-sonnet-4-20250514")
        # Anthropic leaves cached tokens out of the others.
        assert cut.usage == Usage(input_tokens=100, output_tokens=7, cache_read_tokens=40)
        assert get(user("No usage")).usage is None
        assert cache.get(Conversation.user("What is on it?")) is None


def test_doing_it_again_adds_nothing_and_other_answers_are_conflicts() -> None:
    store = filled(entry(prompt("What is 2+2?"), answer("5"), parameters=None))
    report = load_reference(store, REFERENCE, namespace="default")
    # Both of its namespaces hold the same answers.
    assert (report.added, report.identical, report.conflicts) == (6, 6, 2)
    assert load_reference(store, REFERENCE).added == 7
    assert "what was there is kept" in str(report)
    assert "6: an error, a refusal" in str(report)
    report = load_reference(store, REFERENCE, on_conflict="replace", dry_run=True)
    assert report.replaced == 1
    assert "fail" not in (load_reference(store, REFERENCE, on_conflict="keep").stopped or "")
    assert "another answer" in (load_reference(store, REFERENCE, on_conflict="fail").stopped or "")


def test_a_leveldb_directory_is_read_from_a_copy(tmp_path: Path) -> None:
    leveldb_reference(tmp_path / "cache")
    before = fingerprints(tmp_path / "cache")
    assert is_reference(tmp_path / "cache")
    store, from_sqlite = MemoryStore(), MemoryStore()
    report = load_reference(store, tmp_path / "cache")
    assert (report.added, report.left_out) == (14, LEFT_OUT)
    load_reference(from_sqlite, REFERENCE)
    assert contents(store) == contents(from_sqlite)
    assert fingerprints(tmp_path / "cache") == before


def test_other_leveldb_directories_are_told_apart(tmp_path: Path) -> None:
    plyvel = pytest.importorskip("plyvel")
    LevelDBStore(tmp_path / "ours").close()
    with contextlib.closing(plyvel.DB(str(tmp_path / "others"), create_if_missing=True)) as others:
        others.put(b"a key", b"a value")
    for name in ("ours", "others"):
        assert not is_reference(tmp_path / name)
        with pytest.raises(CacheFileError, match="is no cache of lm-deluge"):
            load_reference(MemoryStore(), tmp_path / name)


def changed(tmp_path: Path, statement: str, *values: Any) -> Path:
    path = tmp_path / "changed.db"
    shutil.copy(REFERENCE, path)
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"not JSON",
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"model_internal": "m", "prompt": {"messages": [{"role": "user", "content": [{"type": "audio"}]}]}}',
        b'{"model_internal": "m", "prompt": {"messages": [{"role": "root", "content": []}]}}',
        b'{"model_internal": "m", "prompt": {"messages": [], "more": 1}}',
    ],
)
def test_entries_of_another_form_are_left_out(tmp_path: Path, value: bytes) -> None:
    path = changed(tmp_path, "UPDATE cache SET value = ?", value)
    report = load_reference(MemoryStore(), path)
    assert (report.added, report.left_out) == (0, {"the entry has another form": 34})


@pytest.mark.parametrize("key", ["", "no colon", ":0123456789abcdef", "default:0123", None, b"\xff:0123456789abcdef"])
def test_keys_of_another_form_are_left_out(tmp_path: Path, key: Any) -> None:
    path = changed(tmp_path, "UPDATE cache SET key = ? WHERE rowid = 1", key)
    report = load_reference(MemoryStore(), path)
    assert report.added == 13


def test_other_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    ours = SqliteStore(tmp_path / "ours.db")
    ours.close()
    view = sqlite3.connect(tmp_path / "view.db")
    view.execute("CREATE TABLE real(key TEXT, value BLOB)")
    view.execute("CREATE VIEW cache AS SELECT key, value FROM real")
    view.commit()
    view.close()
    (tmp_path / "directory").mkdir()
    before = fingerprints(tmp_path)
    for name in ("text", "ours.db", "view.db", "missing", "directory"):
        assert not is_reference(tmp_path / name)
        with pytest.raises(CacheFileError):
            load_reference(MemoryStore(), tmp_path / name)
    assert fingerprints(tmp_path) == before
    assert not is_bundle(REFERENCE)


def test_a_view_that_says_it_is_a_table_is_refused(tmp_path: Path) -> None:
    with_view = changed(tmp_path, "ALTER TABLE cache RENAME TO real")
    connection = sqlite3.connect(with_view)
    connection.execute(
        "CREATE VIEW cache AS SELECT CAST(key AS TEXT) AS key, CAST(value AS BLOB) AS value FROM real, "
        "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)"
    )
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET type = 'table' WHERE name = 'cache'")
    connection.commit()
    connection.close()
    assert not is_reference(with_view)
    with pytest.raises(CacheFileError):
        load_reference(MemoryStore(), with_view)


def test_damaged_files_give_what_can_be_read(tmp_path: Path) -> None:
    whole = MemoryStore()
    load_reference(whole, REFERENCE)
    content, noise = REFERENCE.read_bytes(), random.Random(3)
    for place in range(4_096, len(content), 4_096):
        damaged = bytearray(content)
        damaged[place : place + 4_096] = noise.randbytes(4_096)
        path = tmp_path / "damaged.db"
        path.write_bytes(damaged)
        store = MemoryStore()
        try:
            load_reference(store, path)
        except CacheFileError:
            continue
        assert contents(store).items() <= contents(whole).items()
