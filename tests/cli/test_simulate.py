"""``deluge simulate``: the bill of each pattern, before anything is sent."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from lm_deluge.cli import options
from lm_deluge.prompt_cache import PATTERNS
from lm_deluge.prompt_cache.options import Ttl
from lm_deluge.testing import Emulator

from .conftest import FAST, Deluge, read_rows

Write = Callable[..., Path]

SYSTEM = "You know all this. " * 1200
LIMITS = ("--max-requests-per-minute", "1000000", "--max-tokens-per-minute", "1000000000")
CLAUDE = ("simulate", "prompts.jsonl", "-m", "claude-haiku-4-5", *LIMITS)


def simulated(deluge: Deluge, *arguments: str) -> dict[str, Any]:
    """What a simulation says to programs, its forecasts by pattern."""
    done = deluge.command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "forecasts": {each["pattern"]: each for each in found["forecasts"]}}


def told(deluge: Deluge, *arguments: str) -> str:
    """What a simulation says to people, without its line ends."""
    done = deluge.command(*arguments, columns=80)
    assert (done.returncode, done.stderr) == (0, "")
    return " ".join(done.stdout.split())


# Bills


def test_every_pattern_has_its_bill_and_the_best_is_named(
    deluge: Deluge, emulator: Emulator, write_prompts: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    write_prompts(*(f"question {number}" for number in range(20)))
    found = simulated(deluge, *CLAUDE, "--system", SYSTEM)
    assert list(found["forecasts"]) == [None, *PATTERNS]
    assert found["best"] == "system_and_tools"
    assert (found["prompts"], found["hits"], found["unusable"]) == (20, 0, 0)
    assert found["prices"].startswith("genai-prices ")
    best, none = found["forecasts"]["system_and_tools"], found["forecasts"][None]
    assert best["cold"]["cost"] < none["cold"]["cost"] / 4
    assert (best["cold"]["writes"], best["cold"]["reads"]) == (1, 19)
    assert (best["warm"]["writes"], best["warm"]["reads"]) == (0, 20)
    assert best["unwarmed"]["writes"] == 20
    assert best["cold"]["hit_ratio"] > 0.9
    assert emulator.calls == 0


@pytest.mark.parametrize("pattern", ["system_and_tools", "shared_prefix", "last_user_message"])
def test_the_run_does_what_was_predicted(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, pattern: str
) -> None:
    document = "What the whole document says. " * 2000
    write_prompts(
        *(
            {"messages": [{"role": "system", "content": document}, {"role": "user", "content": f"What is {number}?"}]}
            for number in range(12)
        )
    )
    same = ("--cache-pattern", pattern)
    predicted = simulated(deluge, *CLAUDE, *same)["forecasts"][pattern]["cold"]
    done = deluge.command("run", "prompts.jsonl", "-m", "claude-haiku-4-5", "-o", "out.jsonl", *same, *FAST)
    assert done.returncode == 0, done.stderr
    usage = [row["usage"] for row in read_rows(tmp_path / "out.jsonl")]
    assert sum(each["cache_write_tokens"] > 0 for each in usage) == predicted["writes"]
    assert sum(each["cache_read_tokens"] > 0 for each in usage) == predicted["reads"]
    read = sum(each["cache_read_tokens"] for each in usage)
    assert read == pytest.approx(predicted["usage"]["cache_read_tokens"], rel=0.1)


def test_answers_are_in_the_bill_only_on_request(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a", "b")
    alone = simulated(deluge, *CLAUDE)
    both = simulated(deluge, *CLAUDE, "--output-tokens", "1000")
    assert (alone["output_tokens"], both["output_tokens"]) == (None, 1000)
    cost = [found["forecasts"][None]["cold"]["cost"] for found in (alone, both)]
    assert cost[1] - cost[0] == pytest.approx(2 * 1000 * 5e-6), "five dollars for a million"
    assert "Answers are not in the bill; --output-tokens N adds them." in told(deluge, *CLAUDE)
    assert "Each answer counts 1,000 tokens." in told(deluge, *CLAUDE, "--output-tokens", "1000")


def test_chosen_patterns_are_compared_as_they_would_be_used(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a", "b", "c")
    patterns = ("--cache-pattern", "tools_only", "--cache-pattern", "system_and_tools")
    how = ("--cache-lifetime", "1h", "--cache-warm", "never")
    found = simulated(deluge, *CLAUDE, "--system", SYSTEM, *patterns, *how)["forecasts"]
    assert list(found) == [None, "tools_only", "system_and_tools"]
    cold = found["system_and_tools"]["cold"]
    assert (cold["writes"], cold["reads"]) == (3, 0)
    assert cold["usage"]["cache_write_1h_tokens"] == cold["usage"]["cache_write_tokens"] > 0
    assert found["system_and_tools"]["unwarmed"] is None, "nobody waits anyway"


def test_limits_decide_what_can_be_read(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts(*map(str, range(4)))
    options = ("--system", SYSTEM, "--cache-pattern", "system_and_tools", "--cache-warm", "never")
    at_once = simulated(deluge, *CLAUDE, *options)
    one_by_one = simulated(deluge, *CLAUDE, *options, "--max-concurrent-requests", "1")
    slowly = simulated(
        deluge, "simulate", "prompts.jsonl", "-m", "claude-haiku-4-5", *options, "--max-requests-per-minute", "1"
    )
    assert one_by_one["forecasts"]["system_and_tools"]["cold"]["writes"] == 1
    # So far apart that each finds what the one before has written.
    assert slowly["forecasts"]["system_and_tools"]["cold"]["writes"] == 1
    assert at_once["forecasts"]["system_and_tools"]["cold"]["writes"] == 4


# The local cache


def test_what_the_local_cache_has_is_free(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b")
    run = ("run", "prompts.jsonl", "-m", "claude-haiku-4-5", "--temperature", "0.5", "--cache", "my.db", *FAST)
    assert deluge.command(*run, "-o", "out.jsonl", "--scope", "request").returncode == 0
    before = (tmp_path / "my.db").read_bytes()
    write_prompts("a", "b", "c")
    local = ("--cache", "my.db", "--scope", "request")
    found = simulated(deluge, *CLAUDE, *local, "--temperature", "0.5")
    assert (found["prompts"], found["hits"]) == (3, 2)
    alone = simulated(deluge, *CLAUDE, "--temperature", "0.5")
    assert found["forecasts"][None]["cold"]["cost"] == pytest.approx(alone["forecasts"][None]["cold"]["cost"] / 3)
    assert simulated(deluge, *CLAUDE, *local)["hits"] == 0, "another temperature"
    assert simulated(deluge, *CLAUDE, *local, "--temperature", "0.5", "--cache-key", "k")["hits"] == 0
    said = told(deluge, *CLAUDE, *local, "--temperature", "0.5")
    assert said.startswith("1 prompt to claude-haiku-4-5; 2 more are answered by the local cache. It costs $0.")
    write_prompts("a", "b")
    said = told(deluge, *CLAUDE, *local, "--temperature", "0.5")
    assert said == "Nothing to pay: 2 prompts, answered by the local cache."
    assert (tmp_path / "my.db").read_bytes() == before
    assert emulator.calls == 2


def test_a_cache_that_is_not_there_yet_is_not_made(deluge: Deluge, tmp_path: Path, write_prompts: Write) -> None:
    write_prompts("a")
    done = deluge.command(*CLAUDE, "--cache", "new.db")
    assert done.returncode == 0
    assert "The local cache is not there yet, so nothing is answered from it.\n" in done.stderr
    assert not (tmp_path / "new.db").exists()


def test_samples_and_shared_calls_are_counted_as_the_run_would(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a", "a", "b")
    assert simulated(deluge, *CLAUDE, "--samples", "3")["prompts"] == 9
    shared = simulated(deluge, *CLAUDE, "--single-flight")
    assert (shared["prompts"], shared["hits"]) == (3, 1)
    said = told(deluge, *CLAUDE, "--single-flight")
    assert "1 more is answered by the local cache or by another's call." in said


# What is said


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_and_a_sentence_tell_it(deluge: Deluge, write_prompts: Write, columns: int) -> None:
    write_prompts(*(f"question {number}" for number in range(20)))
    done = deluge.command(*CLAUDE, "--system", SYSTEM, columns=columns)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert "…" not in done.stdout
    assert lines[0] == "20 prompts to claude-haiku-4-5."
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert ["pattern", "cold", "vs none", "warm", "writes", "reads", "read share"] in cells
    found = {line[0]: line for line in cells}
    assert found["none"][2:] == ["–", found["none"][1], "–", "–", "–"]
    assert found["system_and_tools"][4:6] == ["1", "19"]
    less = found["system_and_tools"][2]
    assert -90 < float(less.removesuffix("%")) < -50
    said = " ".join(done.stdout.split())
    assert re.search(rf"Best: system_and_tools saves \$0\.\d+ \({less.strip('-')}\);", said)
    assert re.search(r"With --cache-warm never it would cost \$0\.1\d+, more than without a pattern\.", said)
    assert "The counts are those of the cold run." in said
    assert "Tokens are estimated: four bytes of text count as one" in said
    assert re.search(r"List prices of genai-prices \d", said)


def test_where_waiting_is_all_that_a_pattern_brings_that_is_said(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a", "b", "c")
    said = told(deluge, "simulate", "prompts.jsonl", "-m", "gpt-4.1-mini", "--system", SYSTEM, *LIMITS)
    assert re.search(r"With --cache-warm never it would cost \$0\.\d+, as without a pattern\.", said), said


def test_where_every_pattern_costs_more_that_is_said(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts(SYSTEM)
    said = told(deluge, *CLAUDE)
    assert "pattern cold vs none warm" in said
    assert "Best: none; no pattern compared makes it cheaper." in said
    assert "writes" in said
    assert "read" not in said.partition("Best")[0], "nobody reads, so there are no columns for it"


@pytest.mark.parametrize(
    ("model", "prompts", "why"),
    [
        (
            "claude-haiku-4-5",
            ["a", "b" * 4000],
            r"It costs \$0\.00\d+, with every pattern and without one: the longest prompt has about 1,004 tokens, and "
            r"the model caches nothing below 4,096\.",
        ),
        (
            "gpt-4.1-mini",
            [f"{number} {SYSTEM}" for number in range(3)],
            r"It costs \$0\.00\d+ \(\$0\.00\d+ for the same again, right after\), with every pattern and without one: "
            r"its provider caches prompts on its own, and nothing is added to that\.",
        ),
        (
            "cerebras/llama3.1-8b",
            [SYSTEM, SYSTEM],
            r", with every pattern and without one: its provider takes no instructions for its cache, and may cache "
            r"prompts on its own\.",
        ),
        ("claude-unheard-of", ["a"], r"No pattern makes a difference: the longest prompt has about 5 tokens, and"),
    ],
)
def test_where_every_pattern_has_the_same_bill_one_sentence_says_why(
    deluge: Deluge, write_prompts: Write, model: str, prompts: list[str], why: str
) -> None:
    write_prompts(*prompts)
    said = told(deluge, "simulate", "prompts.jsonl", "-m", model, *LIMITS)
    assert re.search(why, said), said
    assert "system_and_tools" not in said
    assert "cold" not in said
    assert "Answers are not in the bill" in said
    assert ("List prices" in said) == ("$" in said)


@pytest.mark.parametrize(
    ("model", "start"),
    [
        ("claude-haiku-4-5", r"It costs \$0\.\d+, with {} as without"),
        ("claude-unheard-of", "With {} it costs the same"),
    ],
)
def test_nothing_is_said_of_patterns_that_were_not_compared(
    deluge: Deluge, write_prompts: Write, model: str, start: str
) -> None:
    write_prompts("a", "b", "c")
    simulation = ("simulate", "prompts.jsonl", "-m", model, "--system", SYSTEM, *LIMITS)
    why = ": no place for a breakpoint is found behind enough tokens to be cached."
    said = told(deluge, *simulation, "--cache-pattern", "tools_only")
    assert re.search(start.format("tools_only") + why, said), said
    assert "cached. The pattern 'tools_only' has no effect: the prompts have no tools. Use another one." in said
    assert "every pattern" not in said
    twice = told(deluge, *simulation, "--cache-pattern", "tools_only", "--cache-pattern", "tools_only")
    assert twice == said


def test_tools_count_for_the_longest_prompt(deluge: Deluge, tmp_path: Path, write_prompts: Write) -> None:
    write_prompts("a")
    (tmp_path / "tools.json").write_text(json.dumps([{"name": "f", "description": "long " * 4000}]))
    said = told(deluge, *CLAUDE, "--tools", "tools.json", "--cache-pattern", "tools_only")
    assert "Best: none;" in said, "a write that nobody reads"
    (tmp_path / "tools.json").write_text(json.dumps([{"name": "f", "description": "long " * 2000}]))
    said = told(deluge, *CLAUDE, "--tools", "tools.json", "--cache-pattern", "tools_only")
    assert re.search(r"the longest prompt has about 2,5\d\d tokens", said)


def test_a_run_that_its_limits_make_slow_is_told(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts(*map(str, range(30)))
    simulation = ("simulate", "prompts.jsonl", "-m", "claude-haiku-4-5", "--system", SYSTEM)
    assert re.search(
        r"At these limits the run takes at least \d+ min \d+ s; --max-tokens-per-minute \(100,000\) holds it back\.",
        told(deluge, *simulation, "--output-tokens", "4000"),
    )
    assert re.search(
        r"At these limits the run takes at least \d min \d+ s; --max-requests-per-minute \(5\) holds it back\.",
        told(deluge, *simulation, "--max-requests-per-minute", "5", "--max-tokens-per-minute", "100000000"),
    )
    assert "At these limits" not in told(deluge, *simulation, *LIMITS)


def test_money_lines_up(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a")
    done = deluge.command(*CLAUDE, "--system", SYSTEM, "--samples", "300", columns=80)
    amounts = re.findall(r"\$[\d,.]+\d", done.stdout.partition("Best")[0])
    assert len(amounts) == 2 * (1 + len(PATTERNS))
    assert {amount.startswith("$0") for amount in amounts} == {True, False}
    assert {len(amount.partition(".")[2]) for amount in amounts} == {4}, amounts


def test_samples_are_counted_and_almost_all_is_not_all(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a")
    done = deluge.command(*CLAUDE, "--system", SYSTEM, "--samples", "3000", columns=80)
    assert done.stdout.startswith("3,000 prompts to claude-haiku-4-5. Each row counts 3,000 times, once for each")
    assert re.search(r"^ last_user_message .* 99\.9% $", done.stdout, re.M), "one of them has written it"


def test_a_lifetime_that_the_model_does_not_have_is_told(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a")
    told_once = "deluge: warning: claude-haiku-4-5 has no cache lifetime of 30m; 1h is used. Known there: 5m, 1h.\n"
    assert deluge(*CLAUDE, "--cache-lifetime", "30m").stderr == told_once
    assert deluge(*CLAUDE, "--cache-lifetime", "1h").stderr == ""


def test_without_prices_tokens_are_compared(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts("a", "b", "c")
    unknown = ("simulate", "prompts.jsonl", "-m", "claude-unheard-of", "--system", SYSTEM, *LIMITS)
    found = simulated(deluge, *unknown)
    assert found["prices"] is None
    assert found["best"] == "system_and_tools"
    said = told(deluge, *unknown)
    assert "pattern vs none input written read writes" in said
    assert "Best: system_and_tools saves about 5" in said
    assert "No price is known for claude-unheard-of, so the usual multiples are compared" in said
    assert "$" not in said
    assert "The provider's cache is taken to hold nothing of the prompts yet." in said
    assert not re.search(r"\b(cold|warm)\b", said), "there are no such columns"
    assert "a tenth of other input, what is written a quarter more." in said
    said = told(deluge, "simulate", "prompts.jsonl", "-m", "gpt-unheard-of", "--system", SYSTEM, *LIMITS)
    assert "a tenth of other input." in said
    assert "writ" not in said, "its provider charges nothing for that"


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_without_prices_fits_too(deluge: Deluge, write_prompts: Write, columns: int) -> None:
    write_prompts(*(f"question {number}" for number in range(20)))
    unknown = ("simulate", "prompts.jsonl", "-m", "claude-unheard-of", "--system", SYSTEM, *LIMITS)
    done = deluge.command(*unknown, "--samples", "100", columns=columns)
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert "…" not in done.stdout
    assert re.search(r"vs none .* written +read .* read share", done.stdout)
    assert bool(re.search(r" input .* writes +reads ", done.stdout)) == (columns == 120)


def test_rows_that_cannot_be_asked_are_counted_and_told(deluge: Deluge, tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:;base64,bm8gaW1hZ2U="}}
    rows = ["a", {"prompt": 7}, [{"role": "user", "content": [picture]}], "b"]
    (tmp_path / "prompts.jsonl").write_text("oops\n" + "".join(json.dumps(row) + "\n" for row in rows))
    found = simulated(deluge, *CLAUDE)
    assert (found["prompts"], found["unusable"]) == (5, 3)
    done = deluge.command(*CLAUDE)
    assert done.returncode == 0
    assert done.stdout.startswith("2 prompts to claude-haiku-4-5.\n")
    assert done.stderr.startswith("3 prompts cannot be asked and are left out. One of them: Line 1 is not JSON")


def test_where_no_row_can_be_asked_the_exit_code_says_so(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts({"prompt": 7}, {"text": "a"})
    done = deluge.command(*CLAUDE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("2 prompts cannot be asked and are left out. One of them: Line 1 has a prompt of")
    assert deluge.command(*CLAUDE, "--json").returncode == 1


def test_rows_come_from_standard_input_and_their_fields_as_in_a_run(deluge: Deluge) -> None:
    lines = '{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n'
    done = deluge("simulate", "-", "-m", "gpt-4.1-mini", "--field", "text", "--limit", "2", "--json", input=lines)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["prompts"] == 2


def test_an_empty_input_is_told(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts()
    done = deluge.command(*CLAUDE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No prompts in prompts.jsonl.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl", "-m", "gpt-4.1-mini"], "deluge: absent.jsonl: No such file or directory\n"),
        (["prompts.jsonl"], "deluge: --model is missing."),
        (["prompts.jsonl", "-m", "gpt-4.1-mini", "-m", "o3"], "deluge: A bill is that of one model: give --model once"),
        (["prompts.jsonl", "-m", "frobnicate"], "deluge: The provider of model 'frobnicate' cannot be told"),
        (["prompts.jsonl", "-m", "o3", "--cache-pattern", "all"], "deluge: 'all' is not a prompt cache pattern"),
        (["prompts.jsonl", "-m", "o3", "--cache-pattern", "none"], "deluge: 'none' is no pattern: it is what happens"),
        (
            ["prompts.jsonl", "-m", "o3", "--cache", "conversation"],
            "deluge: 'conversation' is a pattern of the provider",
        ),
        (["prompts.jsonl", "-m", "o3", "--scope", "request"], "deluge: --scope needs --cache."),
        (
            ["prompts.jsonl", "-m", "o3", "--output-tokens", "-1"],
            "deluge: --output-tokens is '-1'; 0 or more is needed.",
        ),
        (["prompts.jsonl", "-m", "o3", "--tools", "prompts.jsonl"], "prompts.jsonl does not hold a list of tools."),
        (["prompts.jsonl", "-m", "o3", "--cache", "prompts.jsonl"], "truncated or not an SQLite file"),
    ],
)
def test_what_cannot_be_simulated_is_one_clear_line(
    deluge: Deluge, write_prompts: Write, arguments: list[str], message: str
) -> None:
    write_prompts("a")
    done = deluge.command("simulate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


# Names that are written out, so that help is there at once


def test_help_names_every_pattern_and_lifetime_that_there_is() -> None:
    assert tuple(re.split(r", | or ", options.PATTERN_NAMES)) == PATTERNS
    lifetimes = options.CacheLifetime.__origin__  # type: ignore[attr-defined]
    assert get_args(get_args(lifetimes)[0]) == get_args(Ttl)
