"""``deluge cache stats``, ``list``, ``show`` and ``drift``."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache.entry import short_id
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.cli.stores import open_store
from lm_deluge.events import RunReport
from lm_deluge.prompt import Conversation, Image, Message, ToolCall
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.usage import Usage

from .conftest import Deluge
from .stores import DAY, HOSTILE, NOW, Place, response, rows

# Every kind of store


def test_stats_add_up(deluge: Deluge, place: Place) -> None:
    place.put("a", days=3)
    place.put("b", days=2, model="model-2", cost=None)
    place.put("c", namespace="other")
    (found,) = rows(deluge.cache("stats", place.name, "--json"))
    assert (found["all"]["entries"], found["all"]["cost"], found["all"]["unpriced"]) == (3, 0.5, 1)
    assert found["all"]["usage"]["input_tokens"] == 300
    assert [(group["name"], group["entries"]) for group in found["namespaces"]] == [("default", 2), ("other", 1)]
    done = deluge.cache("stats", place.name)
    assert done.returncode == 0
    assert ": 3 entries, " in done.stdout
    cells = {tuple(re.split(r"\s{2,}", line.strip()))[:2] for line in done.stdout.splitlines()}
    assert {("default", "2"), ("other", "1"), ("model-1", "2"), ("model-2", "1")} <= cells
    assert rows(deluge.cache("stats", place.name, "--cache-key", "other", "--json"))[0]["all"]["entries"] == 1


def test_the_newest_entries_are_listed_first(deluge: Deluge, place: Place) -> None:
    keys = [place.put(f"question {days}", f"answer {days}", days=days) for days in (3, 2, 1)]
    listed = rows(deluge.cache("list", place.name, "--json"))
    assert [row["key"] for row in listed] == keys[::-1]
    first = listed[0]
    assert (first["prompt"], first["completion"]) == ("question 1", "answer 1")
    assert (first["asked"], first["model"], first["cost"]) == ("model", "model-1", 0.25)
    assert first["created"] == NOW - DAY
    limited = deluge.cache("list", place.name, "--limit", "2")
    assert re.findall(r"question \d", limited.stdout) == ["question 1", "question 2"]
    assert limited.stderr == "The newest 2; --limit shows more.\n"


def test_an_entry_is_shown_whole(deluge: Deluge, place: Place) -> None:
    key = place.put("What is it?", "It is " + "long " * 400)
    (found,) = rows(deluge.cache("show", place.name, key[:10], "--json"))
    assert found["key"] == key
    assert found["request"]["conversation"]["messages"][1]["parts"][0]["text"] == "What is it?"
    assert found["response"]["content"]["parts"][1]["text"].startswith("It is long")
    done = deluge.cache("show", place.name, key[:10])
    assert key in "".join(done.stdout.split())
    for text in ("You grade.", "What is it?", "[thinking] let me see", '[calls grade({"score":3}), id c1]'):
        assert text in done.stdout
    assert "1,006 characters left out; --full shows them" in done.stdout
    assert "It is " + "long " * 400 in deluge.cache("show", place.name, key[:10], "--full").stdout


def test_the_ids_in_the_list_tell_answers_to_one_prompt_apart(deluge: Deluge, place: Place) -> None:
    prompt = Conversation.user("a")
    asked = [
        Parameters(model="model", endpoint="https://example.org", params={"temperature": heat}) for heat in (0.1, 0.9)
    ]
    with place.open() as cache:
        for parameters, answer in zip(asked, ("cold", "warm"), strict=True):
            cache.put(prompt, response(answer), parameters)
    listed = deluge.cache("list", place.name).stdout.splitlines()
    ids = {answer: line.split()[0] for line in listed for answer in ("cold", "warm") if answer in line}
    assert len(set(ids.values())) == 2
    for answer, id in ids.items():
        (found,) = rows(deluge.cache("show", place.name, id, "--json"))
        assert answer in str(found["response"]["content"])
    assert deluge.cache("reject", place.name, ids["cold"], "--reason", "no").returncode == 0
    assert ids["cold"] in deluge.cache("list", place.name, "--quarantined").stdout
    assert deluge.cache("restore", place.name, ids["cold"]).returncode == 0
    assert deluge.cache("delete", place.name, ids["warm"]).stderr == "1 entry deleted.\n"
    assert [row["completion"] for row in rows(deluge.cache("list", place.name, "--key", ids["cold"], "--json"))] == [
        "cold"
    ]


def test_a_name_that_moved_is_told(deluge: Deluge, place: Place) -> None:
    place.put("a", days=9, model="model-1")
    place.put("b", days=2, model="model-2")
    (found,) = rows(deluge.cache("drift", place.name, "--json"))
    assert found["asked"] == "model"
    assert [(each["model"], each["entries"]) for each in found["resolved"]] == [("model-1", 1), ("model-2", 1)]
    assert "model: model-2 since 2026-09-19 (" in deluge.cache("drift", place.name).stdout


def test_nothing_is_said_to_be_nothing(deluge: Deluge, place: Place) -> None:
    place.open().close()
    assert "no entries." in deluge.cache("stats", place.name).stdout
    assert deluge.cache("list", place.name).stderr == "There are no entries.\n"
    assert deluge.cache("list", place.name, "--model", "x").stderr == "No entries match.\n"
    assert deluge.cache("list", place.name, "--quarantined").stderr == "No entries are quarantined.\n"
    assert deluge.cache("drift", place.name).stderr == "No name has been answered by more than one model.\n"
    for command in ("list", "drift"):
        assert deluge.cache(command, place.name, "--json").stdout == ""


# Files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stats", "absent.db"], "There is no cache at absent.db."),
        (["verify", "absent.db", "--fix"], "There is no cache at absent.db."),
        (["prune", "absent.db", "--expired"], "There is no cache at absent.db."),
        (["stats", "."], ". is a directory without a LevelDB database in it."),
        (["stats", "http://me:secret@host/"], "A cache at http:// is not known; a path or a redis:// URL is needed."),
        (["show", "sqlite", "zz"], "'zz' is not the beginning of a key"),
        (["show", "sqlite", "00000000"], "No entry has a key that begins with 00000000."),
        (
            ["list", "sqlite", "--quarantined", "--tag", "x"],
            "It is not known which run bought a quarantined entry",
        ),
        (["show", "sqlite", "0000", "--quarantined"], "No quarantined entry has a key that begins with 0000."),
        (["stats", ""], "The name of the cache is empty."),
        (["stats", "shared_prefix"], "'shared_prefix' is a pattern of the provider's prompt cache, which goes to"),
        (["list", "sqlite", "--limit", "abc"], "--limit is 'abc'; a whole number is needed."),
        (["explain", "sqlite", "-p", "a", "--scope", "req"], "--scope is 'req'; conversation or request is needed."),
        (["list", "sqlite", "--older-than", "1d", "--newer-than", "1d"], "No entry is older than"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    deluge: Deluge, file: Place, tmp_path: Path, arguments: list[str], message: str
) -> None:
    file.put("a")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = deluge.cache(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"deluge: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert "secret" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "looking makes no files"


def test_looking_changes_nothing(deluge: Deluge, file: Place) -> None:
    key = file.put("a")
    content, changed = Path(file.name).read_bytes(), Path(file.name).stat().st_mtime_ns
    for command in (("stats",), ("list",), ("drift",), ("verify",), ("show", key), ("explain", "--prompt", "b")):
        assert deluge.cache(command[0], file.name, *command[1:]).returncode == 0
    deluge.cache("prune", file.name, "--older-than", "1s", "--dry-run")
    assert Path(file.name).read_bytes() == content
    assert Path(file.name).stat().st_mtime_ns == changed


@pytest.mark.parametrize("command", ["list", "show"])
def test_texts_from_entries_cannot_drive_the_terminal(deluge: Deluge, file: Place, command: str) -> None:
    key = file.put(HOSTILE, HOSTILE, model=HOSTILE, namespace=HOSTILE)
    done = deluge.cache(command, file.name, *([key] if command == "show" else []), columns=300)
    assert done.returncode == 0
    assert not set(done.stdout) & set("\x1b\x07\u202e")
    assert r"\x1b[2Jgone\x07 [bold]loud[/bold] \u202eevil" in done.stdout
    for other in ("stats", "drift"):
        assert not set(deluge.cache(other, file.name).stdout) & set("\x1b\x07\u202e")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_fit_into_the_terminal(deluge: Deluge, file: Place, columns: int) -> None:
    for number in range(3):
        file.put(f"a long question {number} " * 20, days=number, namespace=f"space {number}", model="a-model-" * 8)
    file.put("b", model="b")
    for command in ("stats", "list", "drift", "verify"):
        done = deluge.cache(command, file.name, columns=columns)
        tables = [line for line in done.stdout.splitlines() if not line.startswith((file.name, "model:"))]
        assert max(map(len, tables), default=0) <= columns


def test_media_and_parameters_are_shown_in_words(deluge: Deluge, file: Place) -> None:
    picture = Image(data=b"\x89PNG\r\n\x1a\n" + bytes(2000), media_type="image/png")
    prompt = Conversation([Message("user", [picture])])
    with file.open() as cache:
        cache.put(prompt, response("a cat"))
        key = cache.key(prompt).hex()
    assert "[image: image/png, 2.0 kB, SHA-256 " in deluge.cache("show", file.name, key).stdout
    (found,) = rows(deluge.cache("show", file.name, key, "--json"))
    assert found["request"]["conversation"]["messages"][0]["parts"][0]["omitted"]["bytes"] == 2008


def test_accounts_of_runs_are_shown(deluge: Deluge, file: Place) -> None:
    file.put("a")
    report = RunReport(
        prompts=10,
        hits=4,
        hits_by_store={"somewhere": 4},
        prompt_cache_hits={"anthropic": 5},
        calls=6,
        usage=Usage(input_tokens=1_000, cache_read_tokens=70),
        cost=1.5,
        cost_without_prompt_caching=2.5,
        cost_avoided=0.5,
    )
    with closing(SqliteStore(file.name)) as store:
        store.record_run(Run(id=2**62, started=NOW, name="baseline", tags=("nightly",), report=report))
    done = deluge.cache("stats", file.name)
    said = " ".join(done.stdout.split())
    assert "1 run: $1.50 paid, $0.5000 avoided by hits, $1.00 saved by the provider's prompt cache." in said
    assert "Tokens paid: 1,000 input, 70 cache read. Hits: 4 in somewhere." in said
    assert "Prompts read from a provider's cache: 5 at anthropic." in said
    assert re.search(r"baseline +nightly +10 +4 +6 +\$1\.50 +\$0\.5000", done.stdout)
    (found,) = rows(deluge.cache("stats", file.name, "--tag", "nightly", "--json"))
    assert found["ledger"]["latest"][0]["id"] == str(2**62)
    assert found["ledger"]["total"]["cost"] == 1.5


def test_a_damaged_entry_spoils_no_list(deluge: Deluge, file: Place) -> None:
    damaged, whole = file.put("a", "lost"), file.put("b", "kept", days=1)
    with sqlite3.connect(file.name) as connection:
        connection.execute("UPDATE entries SET response = x'0102' WHERE key = ?", (bytes.fromhex(damaged),))
    connection.close()
    listed = {row["key"]: row for row in rows(deluge.cache("list", file.name, "--json"))}
    assert listed[whole]["problem"] is None
    assert listed[damaged]["completion"] is None
    assert "damaged: " in listed[damaged]["problem"]
    assert "damaged: " in deluge.cache("list", file.name).stdout
    done = deluge.cache("show", file.name, damaged)
    assert re.search(r"damaged +the entry", done.stdout)
    assert "You grade." in done.stdout, "its request is whole"


def test_an_entry_that_was_quarantined_is_still_found(deluge: Deluge, file: Place) -> None:
    key = file.put("a", "wrong")
    with closing(open_store(file.name, writing=True)) as store:
        (value,) = store.get_many([bytes.fromhex(key)])
        assert store.quarantine(bytes.fromhex(key), value, "rejected: wrong unit")
    (row,) = rows(deluge.cache("list", file.name, "--quarantined", "--json"))
    assert (row["key"], row["reason"]) == (key, "rejected: wrong unit")
    id = short_id(bytes.fromhex(key))
    assert re.search(rf"{id} .* rejected: wrong unit", deluge.cache("list", file.name, "--quarantined").stdout)
    done = deluge.cache("show", file.name, key[:8])
    assert re.search(r"quarantined +20\d\d.*: rejected: wrong unit", done.stdout)
    assert "wrong" in done.stdout


def test_the_committed_file_is_read_as_it_is(deluge: Deluge, tmp_path: Path) -> None:
    golden = (Path(__file__).parents[1] / "cache" / "golden" / "format_2.db").read_bytes()
    (tmp_path / "old.db").write_bytes(golden)
    (found,) = rows(deluge.cache("stats", "old.db", "--json"))
    assert (found["all"]["entries"], len(found["namespaces"])) == (11, 2)
    (first, *_) = rows(deluge.cache("list", "old.db", "--json"))
    assert deluge.cache("show", "old.db", first["key"]).returncode == 0
    assert deluge.cache("verify", "old.db").returncode == 0
    assert (tmp_path / "old.db").read_bytes() == golden


def test_a_list_tells_samples_times_of_a_day_and_answers_without_text(deluge: Deluge, file: Place) -> None:
    with file.open(days=0.1) as cache:
        cache.put(Conversation.user("a"), response("one"))
        call = ToolCall("c1", "grade", {})
        cache.put(Conversation.user("b"), APIResponse(model_internal="m", content=Message("assistant", [call])))
        cache.put(Conversation.user("c"), APIResponse(model_internal="m", content=Message.ai("")))
    done = deluge.cache("list", file.name, columns=80)
    assert "[tool call grade]" in done.stdout
    assert "(empty)" in done.stdout
    assert re.search(r"09-21 UTC", done.stdout)
    assert len(re.findall(r"\b11:49\b", done.stdout)) == 3
    assert "sample" not in done.stdout


def test_runs_are_shown_as_many_as_wanted_and_imported_ones_are_named(deluge: Deluge, file: Place) -> None:
    file.put("a")
    with closing(SqliteStore(file.name)) as store:
        for number in range(1, 8):
            report = RunReport(prompts=1, hits=1, hits_by_store={file.name: 1})
            store.record_run(Run(id=number, started=NOW + number, name=f"run-{number}", report=report))
        store.record_run(Run(id=9, started=NOW, name="theirs", imported=True))
    done = deluge.cache("stats", file.name)
    assert re.findall(r"run-\d", done.stdout) == [f"run-{number}" for number in (7, 6, 5, 4, 3)]
    assert "1 imported" in done.stdout
    assert "Hits: 7 in this cache." in done.stdout
    everything = deluge.cache("stats", file.name, "--runs", "0").stdout
    assert len(re.findall(r"run-\d", everything)) == 7
    assert "theirs (imported)" in everything
    (found,) = rows(deluge.cache("stats", file.name, "--json"))
    assert len(found["runs"]) == 8


def test_bytes_of_a_server_are_in_memory(deluge: Deluge, place: Place) -> None:
    place.put("a")
    where = "in memory" if place.kind == "redis" else "on disk"
    assert where in deluge.cache("stats", place.name).stdout


def test_the_body_of_a_provider_is_text_where_it_is(deluge: Deluge, file: Place) -> None:
    key = file.put("a")
    (found,) = rows(deluge.cache("show", file.name, key, "--json"))
    assert found["response"]["raw_body"] == '{"id": "x"}'
