"""``deluge cache verify``, ``prune``, ``delete`` and ``reject``."""

import io
import re
import sqlite3
import sys
from pathlib import Path

import pytest

from lm_deluge.cache.entry import short_hex
from lm_deluge.prompt import Conversation

from .conftest import Deluge
from .stores import Place, response, rows

LONG_AGO, YEARS_AHEAD = 9_000, -9_000
"""Days before the tests' ``NOW``: before and after any day on which they may run."""


def keys(deluge: Deluge, place: Place) -> set[str]:
    return {row["key"] for row in rows(deluge.cache("list", place.name, "--limit", "0", "--json"))}


def spoil(file: Place, column: str, key: str) -> None:
    with sqlite3.connect(file.name) as connection:
        connection.execute(f"UPDATE entries SET {column} = x'0102' WHERE key = ?", (bytes.fromhex(key),))
    connection.close()


# Verify


def test_a_sound_cache_passes(deluge: Deluge, place: Place) -> None:
    place.put("a")
    done = deluge.cache("verify", place.name)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(": 1 entry read, nothing wrong.\n")
    (report,) = rows(deluge.cache("verify", place.name, "--json"))
    assert (report["entries"], report["damaged"], report["problems"]) == (1, 0, [])


def test_damage_is_found_told_and_quarantined(deluge: Deluge, file: Place) -> None:
    damaged, halved, whole = file.put("a"), file.put("b"), file.put("c")
    spoil(file, "response", damaged)
    spoil(file, "request", halved)
    done = deluge.cache("verify", file.name)
    assert done.returncode == 1
    assert damaged[:8] in done.stdout
    assert "is served" in " ".join(done.stdout.split())
    assert ": 3 entries read:\n  1 answer could not be read, 0 quarantined\n  1 request could not" in done.stderr
    assert done.stderr.endswith("\nUse --fix to quarantine damaged answers.\n")
    assert keys(deluge, file) == {damaged, halved, whole}, "without --fix nothing changes"
    assert deluge.cache("verify", file.name, "--json").returncode == 1

    assert deluge.cache("verify", file.name, "--fix").returncode == 0
    assert keys(deluge, file) == {halved, whole}
    assert deluge.cache("verify", file.name).returncode == 0


def test_quarantining_all_damage_is_success(deluge: Deluge, file: Place) -> None:
    key = file.put("a")
    spoil(file, "response", key)
    assert deluge.cache("verify", file.name, "--fix").returncode == 0
    (quarantined,) = rows(deluge.cache("list", file.name, "--quarantined", "--json"))
    assert quarantined["key"] == key


def test_a_damaged_file_is_rebuilt_from_what_can_be_read(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    stored = {file.put(f"question {number}", "".join(map(chr, range(200, 900)))) for number in range(40)}
    with sqlite3.connect(file.name) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (value,) = connection.execute("SELECT response FROM entries WHERE rowid = 20").fetchone()
    connection.close()
    spoiled = b"\xa5" * size
    with Path(file.name).open("r+b") as raw:
        raw.seek(raw.read().index(value) // size * size)  # the page on which that answer begins
        raw.write(spoiled)
    damaged = deluge.cache("verify", file.name)
    assert damaged.returncode == 1
    assert "--rebuild to rebuild the file" in damaged.stderr
    done = deluge.cache("verify", file.name, "--rebuild")
    assert done.returncode == 1, "something was lost"
    left = keys(deluge, file)
    assert left < stored
    assert len(left) > 20
    (kept,) = tmp_path.glob("sqlite.damaged-*")
    assert f"rebuilt with {len(left)} entries; at least " in done.stderr
    assert kept.name in done.stderr
    assert deluge.cache("verify", file.name).returncode == 0
    assert spoiled in kept.read_bytes()


def test_what_is_no_file_cannot_be_rebuilt(deluge: Deluge, tmp_path: Path) -> None:
    place = Place("leveldb", tmp_path)
    place.put("a")
    done = deluge.cache("verify", place.name, "--rebuild")
    assert done.returncode == 2
    assert done.stderr == (
        f"deluge: {place.name}, a LevelDB directory, cannot be rebuilt: --rebuild is for SQLite files.\n"
    )
    done = deluge.cache("verify", "redis://:hunter2@localhost:1", "--rebuild")
    assert done.stderr == "deluge: A Redis server cannot be rebuilt: --rebuild is for SQLite files.\n"


def test_a_file_that_is_cut_short_is_rebuilt(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    stored = {file.put(f"question {number}", "".join(map(chr, range(200, 900)))) for number in range(40)}
    size = Path(file.name).stat().st_size
    with Path(file.name).open("r+b") as raw:
        raw.truncate(size * 2 // 3)
    refused = deluge.cache("stats", file.name)
    assert refused.returncode == 2
    assert "--rebuild" in refused.stderr
    (report,) = rows(deluge.cache("verify", file.name, "--rebuild", "--json"))
    left = keys(deluge, file)
    assert left < stored
    assert (report["rebuilt"]["entries"], report["rebuilt"]["kept_bytes"]) == (len(left), size * 2 // 3)
    assert report["rebuilt"]["lost"] > 0


@pytest.mark.parametrize("content", [b"", b"some notes\n" * 500])
def test_what_is_no_cache_is_not_rebuilt(deluge: Deluge, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.db").write_bytes(content)
    assert deluge.cache("verify", "notes.db", "--rebuild").returncode == 2
    assert (tmp_path / "notes.db").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["notes.db"]


# Prune


def test_old_entries_go_and_the_price_is_told(deluge: Deluge, place: Place) -> None:
    old = {place.put("a", days=LONG_AGO, cost=0.5), place.put("b", days=LONG_AGO, cost=None)}
    young = place.put("c", days=YEARS_AHEAD)
    options = ("prune", place.name, "--older-than", "30d")
    price = "To get the answers again would cost $0.5000 (+ 1 answer of unknown price)."
    rehearsed = deluge.cache(*options, "--dry-run")
    assert re.fullmatch(r"Would remove 2 entries \(.* bytes\); 1 would stay\. .*\n", rehearsed.stderr)
    assert price in rehearsed.stderr
    assert keys(deluge, place) == {*old, young}
    refused = deluge.cache(*options)
    assert refused.returncode == 2
    assert refused.stderr.startswith("deluge: Would remove 2 entries")
    assert refused.stderr.endswith(f"{price} Nothing was changed; add --yes to do it.\n")
    assert keys(deluge, place) == {*old, young}
    done = deluge.cache(*options, "--yes")
    assert done.stderr.startswith("Removed 2 entries")
    assert price in done.stderr
    assert keys(deluge, place) == {young}
    assert deluge.cache(*options).stderr == "Nothing to remove; 1 stays.\n"


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("\n", 2, 2), ("n\n", 2, 2), ("", 2, 2)])
def test_people_are_asked(
    deluge: Deluge, file: Place, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    file.put("a", days=LONG_AGO)
    file.put("b", days=YEARS_AHEAD)
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    done = deluge.cache("prune", file.name, "--older-than", "30d")
    assert done.returncode == code
    asked = " ".join(done.stderr.split())  # a terminal gets lines of its width
    assert "Would remove 1 entry" in asked
    assert "Go on? [y/N] " in asked
    assert len(keys(deluge, file)) == left


def test_conditions_narrow_each_other(deluge: Deluge, file: Place) -> None:
    file.put("a", days=LONG_AGO, model="gpt-4", namespace="x")
    left = {
        file.put("b", days=LONG_AGO, model="claude", namespace="x"),
        file.put("c", days=LONG_AGO, model="gpt-4", namespace="y"),
        file.put("d", days=YEARS_AHEAD, model="gpt-4", namespace="x"),
    }
    (report,) = rows(
        deluge.cache(
            "prune", file.name, "--unused-for", "2w", "--model", "gpt-*", "--cache-key", "x", "--json", "--dry-run"
        )
    )
    assert (report["entries"], report["kept"], report["dry_run"]) == (1, 3, True)
    deluge.cache("prune", file.name, "--unused-for", "2w", "--model", "gpt-*", "--cache-key", "x", "--yes")
    assert keys(deluge, file) == left


def test_a_size_is_reached(deluge: Deluge, file: Place) -> None:
    for number in range(30):
        file.put(f"question {number}", "".join(map(chr, range(200 + number, 3_000))), days=100 - number)
    size = rows(deluge.cache("stats", file.name, "--json"))[0]["disk_bytes"]
    deluge.cache("prune", file.name, "--max-bytes", f"{size // 2000}kB", "--yes")
    left = rows(deluge.cache("list", file.name, "--json"))
    assert 10 <= len(left) <= 18
    assert [row["prompt"] for row in left] == [f"question {number}" for number in range(29, 29 - len(left), -1)]
    now = rows(deluge.cache("stats", file.name, "--json"))[0]["disk_bytes"]
    assert now < 0.7 * size
    done = deluge.cache("prune", file.name, "--max-bytes", "1GB")
    assert done.stderr.startswith("Nothing to remove")


def test_what_expired_goes(deluge: Deluge, file: Place) -> None:
    left = file.put("a")
    with file.open(days=LONG_AGO, ttl=60) as cache:
        cache.put(Conversation.user("b"), response("yes"))
    deluge.cache("prune", file.name, "--expired", "--yes")
    assert keys(deluge, file) == {left}


# Delete and reject


def test_entries_are_deleted_by_the_beginning_of_their_keys(deluge: Deluge, place: Place) -> None:
    first, second, third = place.put("a"), place.put("b"), place.put("c")
    done = deluge.cache("delete", place.name, first[:12], second)
    assert (done.returncode, done.stderr) == (0, "2 entries deleted.\n")
    assert keys(deluge, place) == {third}
    assert rows(deluge.cache("delete", place.name, third, "--json")) == [{"deleted": 1}]


def test_one_unknown_key_deletes_nothing(deluge: Deluge, file: Place) -> None:
    key = file.put("a")
    assert deluge.cache("delete", file.name, key, "0" * 64).returncode == 2
    assert keys(deluge, file) == {key}


def test_filters_delete_only_with_yes(deluge: Deluge, file: Place) -> None:
    file.put("a", model="gpt-4")
    left = file.put("b", model="claude")
    asked = deluge.cache("delete", file.name, "--model", "gpt-*")
    assert (asked.returncode, asked.stderr) == (
        2,
        "deluge: 1 entry would be deleted. Nothing was changed; add --yes to do it.\n",
    )
    assert len(keys(deluge, file)) == 2
    done = deluge.cache("delete", file.name, "--model", "gpt-*", "--yes")
    assert (done.returncode, done.stderr) == (0, "1 entry deleted.\n")
    assert keys(deluge, file) == {left}
    assert deluge.cache("delete", file.name, "--model", "gpt-*", "--yes").stderr == "No entries match.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete", "--yes"], "Give keys, or filters such as --model."),
        (["delete", "abcd", "--model", "x"], "Give keys or filters, not both."),
        (["prune"], "Nothing says which entries may go, so all of them would."),
        (["prune", "--max-bytes", "5"], "'5' is not a size such as 800kB, 500MB or 2GB."),
        (["prune", "--older-than", "0s", "--yes"], "--older-than: '0s' is not a duration"),
        (["rekey", "--to", "x", "--yes"], "name the first with --from."),
        (["delete", "abc"], "'abc' is too short to change something: give at least 4 digits of a key."),
        (["reject", "abc", "--reason", "x"], "'abc' is too short to change something"),
        (["restore", "abc"], "'abc' is too short to change something"),
        (["restore", "abcd"], "No quarantined entry has a key that begins with abcd."),
        (["delete", "--quarantined", "--run", "x"], "It is not known which run bought a quarantined entry"),
        (["reject", "abcd"], "--reason is missing. See `deluge cache reject --help`."),
    ],
)
def test_what_is_not_clear_is_not_done(deluge: Deluge, file: Place, arguments: list[str], message: str) -> None:
    file.put("a")
    done = deluge.cache(arguments[0], file.name, *arguments[1:])
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert len(keys(deluge, file)) == 1


def test_a_rejected_answer_is_not_served_and_is_kept(deluge: Deluge, place: Place) -> None:
    key = place.put("a")
    done = deluge.cache("reject", place.name, key[:12], "--reason", "wrong unit")
    assert done.returncode == 0
    assert keys(deluge, place) == set()
    (quarantined,) = rows(deluge.cache("list", place.name, "--quarantined", "--json"))
    assert (quarantined["key"], quarantined["reason"]) == (key, "rejected: wrong unit")
    with place.open() as cache:
        assert cache.backend.get_many([bytes.fromhex(key)]) == [None]


def test_what_was_quarantined_is_looked_at_restored_and_erased(deluge: Deluge, place: Place) -> None:
    first, second = place.put("What is a?", "one"), place.put("What is b?", "two", namespace="other")
    for key in (first, second):
        assert deluge.cache("reject", place.name, key[:12], "--reason", " ").returncode == 0
    listed = rows(deluge.cache("list", place.name, "--quarantined", "--json"))
    assert [(row["prompt"], row["completion"], row["model"], row["reason"]) for row in listed] == [
        ("What is a?", "one", "model-1", "rejected"),
        ("What is b?", "two", "model-1", "rejected"),
    ]
    assert "What is a?" in deluge.cache("list", place.name, "--quarantined").stdout

    def chosen(*filters: str) -> list[str]:
        return [row["key"] for row in rows(deluge.cache("list", place.name, "--quarantined", "--json", *filters))]

    assert chosen("--model", "x*") == []
    assert chosen("--key", second[:8], "--model", "model-?") == [second]
    assert chosen("--cache-key", "other") == [second]

    done = deluge.cache("restore", place.name, first[:8])
    assert (done.returncode, done.stderr) == (0, f"{short_hex(first)} is in service again.\n")
    assert keys(deluge, place) == {first}
    assert chosen() == [second]

    refused = deluge.cache("delete", place.name, "--quarantined")
    assert refused.stderr == (
        "deluge: 1 quarantined entry would be deleted. Nothing was changed; add --yes to do it.\n"
    )
    assert deluge.cache("delete", place.name, "--quarantined", second[:8]).stderr == "1 entry deleted.\n"
    assert deluge.cache("delete", place.name, "--quarantined", "--yes").stderr == "No entries are quarantined.\n"
    assert keys(deluge, place) == {first}


def test_an_earlier_answer_of_a_key_is_told_and_shown(deluge: Deluge, place: Place) -> None:
    key = place.put("a", "wrong one")
    deluge.cache("reject", place.name, key, "--reason", "unit")
    assert place.put("a", "right one", days=-1) == key
    done = deluge.cache("show", place.name, key[:8])
    assert "right one" in done.stdout
    assert "rejected: unit; --quarantined" in " ".join(done.stdout.split())
    done = deluge.cache("show", place.name, key[:8], "--quarantined")
    assert "wrong one" in done.stdout
    assert re.search(r"cache key +default", done.stdout)
    assert re.search(r"stored +20\d\d-.* UTC", done.stdout)
    refused = deluge.cache("restore", place.name, key)
    assert refused.returncode == 2
    assert "Another answer is in service" in refused.stderr
