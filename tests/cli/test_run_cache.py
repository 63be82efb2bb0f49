"""``deluge run`` with a local cache: modes, ages, scopes, samples, and what the cache keeps about the run."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.cache import SqliteCache
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.cli.ask import Asker
from lm_deluge.cli.results import Results
from lm_deluge.cli.settings import RunSettings
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse
from lm_deluge.testing import Emulator, Fault

from .conftest import FAST, Deluge, read_rows
from .stores import Place, rows

Write = Callable[..., Path]

RUN = ("prompts.jsonl", "--cache", "my.db")
SET_IT = "Set it to your key; `deluge demo` needs none."


# Modes


def test_offline_answers_what_is_there_and_names_what_is_near(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("What is the capital of France?")
    deluge.inside(*RUN, "--out", "one.jsonl")
    write_prompts("What is the capital of France?", "What is the capital of Spain?")
    monkeypatch.delenv("OPENAI_API_KEY")
    done = deluge.inside(*RUN, "--out", "two.jsonl", "--offline")
    assert done.returncode == 1
    assert emulator.calls == 1
    hit, miss = read_rows(tmp_path / "two.jsonl")
    assert hit["local_cache_hit"]
    assert "capital of France" in miss["error"]
    assert "1 row has an error. Run without --offline to buy what is missing." in done.stderr


def test_offline_needs_no_more_than_a_file_that_can_be_read(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("a")
    deluge.inside(*RUN)
    before = (tmp_path / "my.db").read_bytes()
    # Not by its permissions, for whoever runs the tests may be allowed everything.
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **more: mode != os.W_OK and allowed(path, mode, **more))
    done = deluge.inside(*RUN, "--offline", "--out", "out.jsonl", "--max-bytes", "1GB")
    assert done.returncode == 0, done.stderr
    assert read_rows(tmp_path / "out.jsonl")[0]["local_cache_hit"]
    assert (tmp_path / "my.db").read_bytes() == before
    assert "warning" not in done.stderr
    refused = deluge.inside(*RUN)
    assert refused.returncode == 2
    assert "cannot be written. Answer from it alone with --offline" in refused.stderr


def test_a_file_may_have_the_name_of_a_pattern(deluge: Deluge, tmp_path: Path, write_prompts: Write) -> None:
    write_prompts("a")
    assert deluge.inside("prompts.jsonl", "--cache", "./tools_only").returncode == 0
    assert deluge.inside("prompts.jsonl", "--cache", "tools_only", "-o", "out.jsonl").returncode == 0
    assert read_rows(tmp_path / "out.jsonl")[0]["local_cache_hit"]


def test_a_base_is_read_and_left_as_it_is(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a")
    deluge.inside("prompts.jsonl", "--cache", "team.db")
    before = (tmp_path / "team.db").read_bytes()
    write_prompts("a", "b")
    deluge.inside(*RUN, "--base", "team.db")
    assert emulator.calls == 2
    assert (tmp_path / "team.db").read_bytes() == before
    (found,) = rows(deluge.cache("stats", "my.db", "--json"))
    assert found["all"]["entries"] == 1
    refused = deluge.inside("prompts.jsonl", "--cache", "redis://localhost:1", "--base", "team.db")
    assert refused.stderr == "deluge: --base is for caches in SQLite files.\n"


def test_a_refreshed_answer_replaces_the_stored_one(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a")
    deluge.inside(*RUN)
    deluge.inside(*RUN, "--cache-mode", "refresh")
    deluge.inside(*RUN, "--cache-mode", "bypass")
    assert emulator.calls == 3
    deluge.inside(*RUN)
    assert emulator.calls == 3


def test_an_answer_that_is_too_old_is_asked_again(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    class LongAgo:
        def time(self) -> float:
            return 1_700_000_000.0

    with SqliteCache(tmp_path / "my.db", clock=LongAgo()) as cache:  # type: ignore[arg-type]
        cache.put(Conversation.user("a"), APIResponse(model_internal="gpt-4.1-mini", content=Message.ai("old")))
    write_prompts("a")
    by_conversation = ("--scope", "conversation")  # it is not known what was asked beside it
    deluge.inside(*RUN, *by_conversation, "--max-age", "10000d")
    assert emulator.calls == 0
    deluge.inside(*RUN, *by_conversation, "--max-age", "7d")
    assert emulator.calls == 1
    deluge.inside(*RUN, *by_conversation, "--ttl", "7d")
    assert emulator.calls == 1


def test_the_scope_keeps_models_and_parameters_apart(deluge: Deluge, emulator: Emulator, write_prompts: Write) -> None:
    write_prompts("a")
    deluge.inside(*RUN, "--scope", "request")
    deluge.inside(*RUN, "--scope", "request", "--temperature", "0.5")
    assert emulator.calls == 2
    deluge.inside(*RUN, "--scope", "request", "--temperature", "0.5")
    assert emulator.calls == 2


def test_a_run_looks_for_the_same_request_unless_it_is_told_otherwise(
    deluge: Deluge, emulator: Emulator, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("a")
    deluge.inside(*RUN)
    deluge.inside(*RUN, "--temperature", "0.5")
    assert emulator.calls == 2
    deluge.inside(*RUN, "--temperature", "0.7", "--scope", "conversation")
    assert emulator.calls == 2
    monkeypatch.setenv("LM_DELUGE_CACHE_SCOPE", "conversation")
    deluge.inside(*RUN, "--temperature", "0.7")
    assert emulator.calls == 2
    deluge.inside(*RUN, "--temperature", "0.7", "--scope", "request")
    assert emulator.calls == 3


def test_a_warning_says_what_to_change(deluge: Deluge, emulator: Emulator, write_prompts: Write) -> None:
    write_prompts("a")
    deluge.inside(*RUN)
    done = deluge.run(*RUN, "--temperature", "0.5", "--scope", "conversation")
    assert "scope 'request'" in done.stderr
    assert "hits of other requests" in done.stderr
    assert "1 hit was asked of another model or with other parameters" in " ".join(done.stderr.split())


def test_answers_that_were_cut_short_are_not_admitted(deluge: Deluge, emulator: Emulator, write_prompts: Write) -> None:
    write_prompts("Tell me a long story about a fox")
    for expected in (1, 2):
        deluge.inside(*RUN, "--admit", "complete", "--max-new-tokens", "2")
        assert emulator.calls == expected
    deluge.inside(*RUN, "--admit", "answers", "--max-new-tokens", "2")
    deluge.inside(*RUN, "--admit", "answers", "--max-new-tokens", "2")
    assert emulator.calls == 3


def test_duplicates_share_a_call(deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write) -> None:
    write_prompts(*(["a"] * 20))
    assert deluge.inside(*RUN, "--out", "out.jsonl", "--single-flight").returncode == 0
    assert emulator.calls == 1
    assert len(read_rows(tmp_path / "out.jsonl")) == 20


def test_the_cache_keeps_an_account_of_the_run(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b")
    deluge.inside(*RUN, "--run-name", "baseline", "--tag", "nightly", "--tag", "mini")
    with closing(SqliteStore(tmp_path / "my.db")) as store:
        (run,) = store.runs()
    assert (run.name, run.tags) == ("baseline", ("nightly", "mini"))
    assert run.report is not None
    assert (run.report.prompts, run.report.calls) == (2, 2)


# Samples


def keys(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return sorted((row["index"], row["sample"]) for row in rows)


@pytest.mark.parametrize("cached", [False, True])
def test_more_samples_buy_only_what_is_missing(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, cached: bool
) -> None:
    write_prompts("a", "b")
    options = ("prompts.jsonl", "--out", "out.jsonl", *(("--cache", "my.db") if cached else ()))
    deluge.inside(*options, "--samples", "2")
    assert emulator.calls == 4
    done = deluge.inside(*options, "--samples", "5")
    assert emulator.calls == 10
    assert "out.jsonl: 4 of 10 answers there already; continuing." in done.stderr
    rows = read_rows(tmp_path / "out.jsonl")
    assert keys(rows) == [(index, sample) for index in (0, 1) for sample in range(5)]
    table = dict(re.findall(r"^ (\w+) +(\S+) *$", done.stderr, re.M))
    assert (table["prompts"], table["calls"], table["hits"]) == ("6", "6", "–"), "what is there is no hit of this run"
    again = deluge.inside(*options, "--samples", "5")
    assert again.stderr == "Nothing to do: 2 rows, all answered 5 times.\n"


@pytest.mark.parametrize("cached", [False, True])
def test_a_sample_that_failed_is_asked_again_and_no_other(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, cached: bool
) -> None:
    write_prompts("a")
    options = ("prompts.jsonl", "--out", "out.jsonl", "--samples", "3", *(("--cache", "my.db") if cached else ()))
    emulator.script([None, Fault.error(400, message="no such thing")])
    done = deluge.inside(*options, "--max-concurrent-requests", "1")
    assert done.returncode == 1
    assert "1 answer has an error" in done.stderr
    assert deluge.inside(*options).returncode == 0
    assert emulator.calls == 4
    rows = read_rows(tmp_path / "out.jsonl")
    assert keys(rows) == [(0, 0), (0, 1), (0, 2)]
    assert all(row["error"] is None for row in rows)


def test_a_row_that_cannot_be_asked_is_an_error_for_each_sample(
    deluge: Deluge, emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "prompts.jsonl").write_text('oops\n"a"\n')
    deluge.inside("prompts.jsonl", "--out", "out.jsonl", "--samples", "2")
    rows = read_rows(tmp_path / "out.jsonl")
    assert keys(rows) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row["error"] is None for row in rows] == [False, False, True, True]


# Keys


def test_without_a_key_the_run_ends_before_anything_is_written(
    deluge: Deluge, tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts(*map(str, range(50)))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"deluge: OPENAI_API_KEY is not set, so gpt-4.1-mini cannot be asked. {SET_IT}\n"
    assert not (tmp_path / "out.jsonl").exists()


def test_without_a_key_the_cache_still_answers(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("a", "b")
    deluge.inside(*RUN)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert deluge.inside(*RUN, "--out", "hits.jsonl").returncode == 0
    write_prompts("a", "b", *(f"new {number}" for number in range(50)))
    done = deluge.inside(*RUN, "--out", "some.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith("deluge: OPENAI_API_KEY is not set, so gpt-4.1-mini cannot be asked.")
    assert done.stderr.count("\n") == 1
    assert all(row["error"] is None for row in read_rows(tmp_path / "some.jsonl"))
    assert emulator.calls == 2


def test_without_a_key_a_row_that_cannot_be_read_is_an_error_and_no_miss(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("a")
    deluge.inside(*RUN)
    monkeypatch.delenv("OPENAI_API_KEY")
    picture = {"type": "image_url", "image_url": {"url": "data:;base64,bm8gaW1hZ2U="}}
    write_prompts([{"role": "user", "content": [picture]}], "a")
    done = deluge.inside(*RUN, "--out", "out.jsonl")
    assert done.returncode == 1, done.stderr
    assert [row["error"] is None for row in read_rows(tmp_path / "out.jsonl")] == [False, True]


def test_where_one_of_two_models_has_no_key_the_run_ends_with_the_first_prompt_that_it_should_answer(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    both = ("run", "prompts.jsonl", "-m", "claude-haiku-4-5", "-m", "gpt-4.1-mini", *FAST)
    write_prompts("a")
    refused = deluge.command(*both)
    assert refused.stderr == f"deluge: ANTHROPIC_API_KEY is not set, so claude-haiku-4-5 cannot be asked. {SET_IT}\n"
    deluge.inside(*RUN)
    assert deluge.command(*both, "--cache", "my.db", "--out", "hit.jsonl").returncode == 0
    # A prompt that is too long for anybody is no model's fault.
    write_prompts("a", "word " * 2_000)
    done = deluge.command(*both, "--cache", "my.db", "--out", "long.jsonl", "--max-tokens-per-minute", "1000")
    assert done.returncode == 1, done.stderr
    assert "so it can never be sent" in read_rows(tmp_path / "long.jsonl")[1]["error"]
    assert emulator.calls == 1
    write_prompts("a", *(f"new {number}" for number in range(60)))
    done = deluge.command(*both, "--cache", "my.db", "--out", "some.jsonl")
    assert done.returncode == 2
    assert done.stderr.startswith("deluge: ANTHROPIC_API_KEY is not set, so claude-haiku-4-5 cannot be asked. What")
    assert all(row["error"] is None for row in read_rows(tmp_path / "some.jsonl"))


# What is said


@pytest.mark.parametrize("source", ["prompts.jsonl", "-"])
def test_an_empty_input_is_told(deluge: Deluge, write_prompts: Write, source: str) -> None:
    write_prompts()
    done = deluge.run(source, input="")
    name = "standard input" if source == "-" else source
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"No prompts in {name}.\n")


def test_rows_that_never_became_prompts_are_in_the_table(deluge: Deluge, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "prompts.jsonl").write_text('oops\n"a"\n[]\n')
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    table = dict(re.findall(r"^ (\w+) +(\S+) *$", done.stderr, re.M))
    assert (table["prompts"], table["calls"], table["hits"], table["errors"]) == ("3", "1", "–", "2")


def test_the_prompt_is_repeated_on_request(deluge: Deluge, emulator: Emulator, write_prompts: Write) -> None:
    write_prompts({"prompt": "a", "tone": "dry"})
    assert "prompt" not in json.loads(deluge.run("prompts.jsonl").stdout)
    row = json.loads(deluge.run("prompts.jsonl", "--with-prompt").stdout)
    assert (row["prompt"], row["input"]) == ("a", {"tone": "dry"})


# Interruptions


def test_an_answer_that_arrives_with_the_interruption_is_written(
    tmp_path: Path, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The responses wait behind a future; it gets its result in the same pass in which the run is cancelled."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    client = {"model_names": ["gpt-4.1-mini"]}
    settings = RunSettings(source=write_prompts("a", "b"), out=None, progress="none", client=client)
    asker = Asker(settings, [], None)

    async def main(results: Results) -> None:
        arrived: asyncio.Future[APIResponse] = asyncio.get_running_loop().create_future()

        async def responses(prompts: AsyncIterator[Conversation], **_: Any) -> AsyncIterator[APIResponse]:
            await anext(prompts)
            yield await arrived
            await asyncio.Event().wait()

        monkeypatch.setattr(asker._client, "process_prompts_iter", responses)
        run = asyncio.create_task(asker.answer(results, None))
        while not asker._asked:
            await asyncio.sleep(0.001)
        arrived.set_result(APIResponse(content=Message.ai("just in time")))
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    with Results.open(tmp_path / "out.jsonl", "s") as results:
        asyncio.run(main(results))
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row["completion"] == "just in time"
    assert asker.answered == 1


def test_the_environment_may_set_the_mode(
    deluge: Deluge, emulator: Emulator, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("a")
    deluge.inside(*RUN)
    write_prompts("b")
    monkeypatch.setenv("LM_DELUGE_CACHE_MODE", "offline")
    monkeypatch.delenv("OPENAI_API_KEY")
    done = deluge.inside(*RUN)
    assert done.returncode == 1
    assert emulator.calls == 1
    assert "OPENAI_API_KEY" not in done.stderr
    assert os.environ["LM_DELUGE_CACHE_MODE"] == "offline"


# Stores


def test_every_kind_of_store_serves_a_run(
    deluge: Deluge, emulator: Emulator, place: Place, write_prompts: Write
) -> None:
    place.open().close()
    write_prompts("a", "b")
    options = ("prompts.jsonl", "--cache", place.name, "--cache-key", "k")
    for _ in range(2):
        assert deluge.inside(*options).returncode == 0
    assert emulator.calls == 2
    (found,) = rows(deluge.cache("stats", place.name, "--json"))
    assert [(group["name"], group["entries"]) for group in found["namespaces"]] == [("k", 2)]
    assert (found["ledger"]["runs"], found["ledger"]["total"]["hits"]) == (2, 2)


def test_a_password_in_a_url_is_never_shown(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a")
    url = "redis://:hunter2@127.0.0.1:1/0"
    for done in (deluge.inside("prompts.jsonl", "--cache", url), deluge.cache("stats", url)):
        assert done.returncode == 2
        assert "127.0.0.1:1" in done.stderr
        assert "hunter2" not in done.stderr
