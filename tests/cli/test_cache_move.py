"""``deluge cache explain``, ``export``, ``import`` and ``rekey``."""

import gzip
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.entry import short_hex
from lm_deluge.prompt import Conversation
from lm_deluge.text import size

from ..cache.archive.making import leveldb_reference
from .conftest import Deluge
from .stores import Place, response, rows

Write = Callable[..., Path]

REFERENCE = Path(__file__).parents[1] / "cache" / "golden" / "reference_0_0_138.db"


@pytest.fixture
def other(tmp_path: Path) -> Place:
    (tmp_path / "other").mkdir()
    return Place("sqlite", tmp_path / "other")


# Export and import


def test_what_is_exported_can_be_imported(deluge: Deluge, place: Place, other: Place, tmp_path: Path) -> None:
    keys = {place.put("a"), place.put("b", namespace="second")}
    done = deluge.cache("export", place.name, "bundle.jsonl.gz")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "bundle.jsonl.gz").stat().st_mode & 0o777 == 0o600
    assert deluge.cache("import", other.name, "bundle.jsonl.gz", "--create").returncode == 0
    moved = rows(deluge.cache("list", other.name, "--json"))
    assert {row["key"] for row in moved} == keys
    assert {row["namespace"] for row in moved} == {"default", "second"}
    again = rows(deluge.cache("import", other.name, "bundle.jsonl.gz", "--json"))[0]
    assert (again["added"], again["identical"]) == (0, 2)


def test_entries_can_be_chosen_and_go_to_standard_output(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    key = file.put("a", namespace="chosen")
    file.put("b")
    done = deluge.cache("export", file.name, "-", "--cache-key", "chosen")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["key"] for line in lines if line["type"] == "entry"] == [key]
    assert deluge.cache("export", file.name, "-", "--json").returncode == 2


def test_an_import_makes_no_file_unless_it_is_asked_to(deluge: Deluge, file: Place, other: Place) -> None:
    file.put("a")
    deluge.cache("export", file.name, "bundle.jsonl")
    refused = deluge.cache("import", other.name, "bundle.jsonl")
    assert refused.returncode == 2
    assert refused.stderr == f"deluge: There is no cache at {other.name}.\n"
    rehearsed = rows(deluge.cache("import", other.name, "bundle.jsonl", "--create", "--dry-run", "--json"))[0]
    assert (rehearsed["added"], rehearsed["dry_run"]) == (1, True)
    assert not Path(other.name).exists()


def test_conflicts_are_kept_replaced_or_the_end(deluge: Deluge, file: Place, other: Place) -> None:
    file.put("a", "theirs")
    key = other.put("a", "ours")
    deluge.cache("export", file.name, "bundle.jsonl")

    def answer() -> str:
        (row,) = rows(deluge.cache("list", other.name, "--json"))
        assert row["key"] == key
        return str(row["completion"])

    failed = deluge.cache("import", other.name, "bundle.jsonl", "--on-conflict", "fail")
    assert (failed.returncode, answer()) == (1, "ours")
    kept = deluge.cache("import", other.name, "bundle.jsonl")
    assert (kept.returncode, answer()) == (0, "ours")
    assert short_hex(key) in kept.stderr
    deluge.cache("import", other.name, "bundle.jsonl", "--on-conflict", "replace")
    assert answer() == "theirs"


def test_a_damaged_line_is_left_out_and_told(deluge: Deluge, file: Place, other: Place, tmp_path: Path) -> None:
    file.put("a", "theirs")
    deluge.cache("export", file.name, "bundle.jsonl")
    bundle = tmp_path / "bundle.jsonl"
    bundle.write_text(bundle.read_text().replace("theirs", "forged"))
    done = deluge.cache("import", other.name, "bundle.jsonl", "--create")
    assert done.returncode == 1
    assert "1 line left out" in done.stderr
    assert deluge.cache("list", other.name).stderr == "There are no entries.\n"


def test_a_cache_of_the_pypi_package_is_recognized(deluge: Deluge, other: Place) -> None:
    done = deluge.cache("import", other.name, REFERENCE, "--create")
    assert done.returncode == 0
    assert "left out" in done.stderr
    assert rows(deluge.cache("list", other.name, "--json"))


def test_so_is_one_in_a_leveldb_directory(deluge: Deluge, other: Place, tmp_path: Path) -> None:
    leveldb_reference(tmp_path / "reference")
    done = deluge.cache("import", other.name, tmp_path / "reference", "--create")
    assert (done.returncode, "left out" in done.stderr) == (0, True)
    assert len(rows(deluge.cache("list", other.name, "--limit", "0", "--json"))) == 14


def test_a_leveldb_directory_of_another_program_is_refused(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    file.put("a")
    with closing(pytest.importorskip("plyvel").DB(str(tmp_path / "another"), create_if_missing=True)) as database:
        database.put(b"a key", b"a value")
    done = deluge.cache("import", file.name, tmp_path / "another")
    assert done.returncode != 0
    assert "is a LevelDB of another program" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "absent.jsonl: No such file or directory"),
        ("notes.txt", b"some notes\n", "notes.txt is neither what `deluge cache export` writes nor a cache, of this"),
        ("half.gz", gzip.compress(b"x" * 1000, mtime=0)[:20], "half.gz is neither"),
    ],
)
def test_what_is_neither_is_refused(
    deluge: Deluge, file: Place, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    file.put("a")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = deluge.cache("import", file.name, name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"deluge: {message}")


def test_entries_move_to_another_namespace(deluge: Deluge, place: Place) -> None:
    place.put("a", namespace="draft")
    rehearsed = deluge.cache("rekey", place.name, "--from", "draft", "--to", "final", "--dry-run")
    assert "would get a new key" in rehearsed.stderr
    refused = deluge.cache("rekey", place.name, "--from", "draft", "--to", "final")
    assert refused.returncode == 2
    assert refused.stderr.endswith("Nothing was changed; add --yes to do it.\n")
    assert (
        rows(deluge.cache("rekey", place.name, "--from", "draft", "--to", "final", "--yes", "--json"))[0]["moved"] == 1
    )
    (row,) = rows(deluge.cache("list", place.name, "--json"))
    assert row["namespace"] == "final"
    assert (
        deluge.cache("explain", place.name, "-p", "a", "--system", "You grade.", "--cache-key", "final").stdout[:4]
        == "Hit:"
    )


# Explain


def test_a_hit_and_a_miss_are_explained(deluge: Deluge, place: Place) -> None:
    key = place.put("What is the capital of France?")
    hit = deluge.cache("explain", place.name, "-p", "What is the capital of France?", "--system", "You grade.")
    assert hit.returncode == 0
    assert hit.stdout.startswith("Hit: ")
    assert key[:64] in hit.stdout
    miss = deluge.cache("explain", place.name, "-p", "What is the capital of Spain?", "--system", "You grade.")
    assert miss.stdout.startswith("Miss: ")
    assert "messages[1].text" in miss.stdout
    assert 'asked "What is the capital of Spain?", stored "What is the capital of France?"' in miss.stdout
    (found,) = rows(
        deluge.cache("explain", place.name, "-p", "What is the capital of Spain?", "--system", "You grade.", "--json")
    )
    assert (found["hit"], found["nearest"][0]["key"]) == (False, key)


def test_rows_are_explained_one_by_one(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    with SqliteCache(file.name) as cache:
        cache.put(Conversation.user("a"), response("yes"))
    (tmp_path / "prompts.jsonl").write_text('"a"\noops\n{"question": "b"}\n')
    done = deluge.cache("explain", file.name, "prompts.jsonl")
    assert done.stdout.startswith("row 0: a\nHit: ")
    assert "\nrow 2: b\nMiss: " in done.stdout
    assert "Line 2 is not JSON" in done.stderr
    assert done.stderr.endswith("1 hit, 1 miss, 1 row that cannot be read.\n")
    listed = rows(deluge.cache("explain", file.name, "prompts.jsonl", "--misses", "--json"))
    assert [(row["index"], row["prompt"]) for row in listed] == [(2, "b")]


def test_the_parameters_of_a_run_are_compared(deluge: Deluge, file: Place, write_prompts: Write) -> None:
    write_prompts("a")
    deluge.inside("prompts.jsonl", "--cache", file.name, "--scope", "request", "--temperature", "0.5")
    asked = ("explain", file.name, "prompts.jsonl", "--scope", "request", "-m", "gpt-4.1-mini")
    assert "Hit: " in deluge.cache(*asked, "--temperature", "0.5").stdout
    miss = deluge.cache(*asked, "--temperature", "0.7").stdout
    assert "params.temperature: asked 0.7, stored 0.5" in miss


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give either a file of prompts or --prompt TEXT."),
        (["prompts.jsonl", "-p", "a"], "Give either a file of prompts or --prompt TEXT."),
        (["-p", "a", "--scope", "request"], "model and parameters matter too: give --model"),
        (["-p", "a", "--temperature", "1"], "say something together with --model only."),
        (["-p", "a", "-m", "frobnicate"], "The provider of model 'frobnicate' cannot be told"),
        (["absent.jsonl"], "absent.jsonl: No such file or directory"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    deluge: Deluge, file: Place, arguments: list[str], message: str
) -> None:
    file.put("a")
    done = deluge.cache("explain", file.name, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


# Pipes and other caches


def test_a_bundle_goes_through_a_pipe(deluge: Deluge, file: Place, other: Place, tmp_path: Path) -> None:
    key = file.put("a")
    exported = deluge("cache", "export", file.name, "-")
    assert exported.stderr.startswith("1 entry written (")
    done = deluge("cache", "import", other.name, "-", "--create", input=exported.stdout)
    assert done.returncode == 0, done.stderr
    assert [row["key"] for row in rows(deluge.cache("list", other.name, "--json"))] == [key]
    refused = deluge("cache", "import", other.name, "-", input="some notes\n")
    assert refused.returncode == 2


def test_what_is_packed_has_to_be_unpacked_on_the_way(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    file.put("a")
    deluge.cache("export", file.name, "bundle.jsonl.gz")
    with (tmp_path / "bundle.jsonl.gz").open("rb") as packed:
        process = deluge.start("cache", "import", file.name, "-", stdin=packed)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "gunzip -c" in err


def test_the_size_that_is_told_is_that_of_the_file(deluge: Deluge, file: Place, tmp_path: Path) -> None:
    file.put("a", "word " * 5_000)
    done = deluge.cache("export", file.name, "bundle.jsonl.gz")
    taken = size((tmp_path / "bundle.jsonl.gz").stat().st_size)
    assert done.stderr == f"1 entry written to bundle.jsonl.gz ({taken}).\n"


def test_another_cache_is_merged(deluge: Deluge, place: Place, other: Place) -> None:
    both, theirs = place.put("a", "theirs"), place.put("b")
    assert other.put("a", "ours") == both
    done = deluge.cache("import", other.name, place.name, "--dry-run", "--json")
    assert (rows(done)[0]["added"], rows(done)[0]["conflicts"]) == (1, 1)
    assert deluge.cache("import", other.name, place.name).returncode == 0
    answers = {row["key"]: row["completion"] for row in rows(deluge.cache("list", other.name, "--json"))}
    assert answers == {both: "ours", theirs: "yes"}
    deluge.cache("import", other.name, place.name, "--on-conflict", "replace")
    answers = {row["key"]: row["completion"] for row in rows(deluge.cache("list", other.name, "--json"))}
    assert answers[both] == "theirs"
    refused = deluge.cache("import", place.name, place.name)
    assert (refused.returncode, refused.stderr) == (
        2,
        "deluge: This is the cache itself; there is nothing to import.\n",
    )
