import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_deluge.prompt_cache import PATTERNS
from lm_deluge.testing import Emulator, Fault, gsm8k

from .conftest import FAST, Deluge, read_rows

Write = Callable[..., Path]


def test_questions_in_answers_out(deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write) -> None:
    questions = gsm8k()[:20]
    write_prompts(*questions)
    done = deluge.run("prompts.jsonl", "--out", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["index"] for row in rows] == list(range(20))
    for row, question in zip(rows, questions, strict=True):
        assert row["completion"].strip() == question["answer"].strip()
        assert row["input"] == {"answer": question["answer"]}
        assert (row["error"], row["finish_reason"], row["local_cache_hit"]) == (None, "stop", False)
        assert row["cost"] > 0
        assert row["usage"]["input_tokens"] > 0
    assert emulator.calls == 20
    assert re.search(r"prompts +calls +hits +input tokens +output tokens +paid +seconds", done.stderr)
    assert len(re.findall("[a-z]+.*\n", done.stderr)) == 1, "the table is all"


def test_again_with_the_same_file_asks_nothing(deluge: Deluge, emulator: Emulator, write_prompts: Write) -> None:
    write_prompts("a", "a", "b")
    assert deluge.inside("prompts.jsonl", "--out", "out.jsonl").returncode == 0
    assert emulator.calls == 3, "duplicates are rows of their own"
    again = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    assert (again.returncode, again.stderr) == (0, "Nothing to do: 3 rows, all answered.\n")
    assert emulator.calls == 3
    assert deluge.inside("prompts.jsonl", "--out", "out.jsonl", "--overwrite").returncode == 0
    assert emulator.calls == 6


def test_rows_added_at_the_end_are_asked(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b", "c")
    deluge.inside("prompts.jsonl", "--out", "out.jsonl", "--limit", "2")
    assert emulator.calls == 2
    write_prompts("a", "b", "c", "d")
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    assert "out.jsonl: 2 of 4 rows answered already; continuing." in done.stderr
    assert emulator.calls == 4
    assert [row["index"] for row in read_rows(tmp_path / "out.jsonl")] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("now", "options", "message"),
    [
        (["a", "B"], [], "Line 2 of the prompts has changed"),
        (["a"], [], "out.jsonl answers 1 row that prompts.jsonl no longer has"),
        (["a", "b"], ["--temperature", "0.5"], "another model or of other settings"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_anything_is_sent(
    deluge: Deluge,
    emulator: Emulator,
    tmp_path: Path,
    write_prompts: Write,
    now: list[str],
    options: list[str],
    message: str,
) -> None:
    write_prompts("a", "b")
    deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    write_prompts(*now)
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "--overwrite" in done.stderr
    assert emulator.calls == 2
    assert (tmp_path / "out.jsonl").read_bytes() == before


# Interruptions


def interrupted(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, kind: signal.Signals
) -> tuple["subprocess.Popen[str]", list[Any]]:
    """A run over 60 rows, three at a time, that is interrupted when 15 were answered and three are in flight."""
    write_prompts(*({"id": f"row {number}", "prompt": f"What is {number}+{number}?"} for number in range(60)))
    with emulator.hold() as gate:
        process = deluge.start(
            "run", "prompts.jsonl", "-o", "out.jsonl", "-m", "gpt-4.1-mini", *FAST, "--max-concurrent-requests", "3"
        )
        for _ in range(5):
            gate.wait(3, timeout=60)
            gate.release(3)
        gate.wait(3, timeout=60)
        process.send_signal(kind)
        process.wait(20)
    lines = (tmp_path / "out.jsonl").read_text().splitlines(keepends=True)
    assert 0 < len(lines) <= 15
    return process, lines


def assert_complete(tmp_path: Path) -> None:
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["index"] for row in rows] == list(range(60))
    assert [row["id"] for row in rows] == [f"row {number}" for number in range(60)]
    assert all(row["completion"] and row["error"] is None for row in rows)


def test_a_killed_run_goes_on_and_asks_only_what_is_missing(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    _, lines = interrupted(deluge, emulator, tmp_path, write_prompts, signal.SIGKILL)
    sent = emulator.calls
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write('{"index":59,"completion":"tor')
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    assert done.returncode == 0
    assert "the last line was torn" in done.stderr
    assert f"out.jsonl: {len(lines)} of 60 rows answered already; continuing." in done.stderr
    assert emulator.calls == sent + 60 - len(lines)
    assert (tmp_path / "out.jsonl").read_text().startswith("".join(lines)), "what was there is still there"
    assert_complete(tmp_path)


def test_ctrl_c_says_how_to_go_on(deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write) -> None:
    process, lines = interrupted(deluge, emulator, tmp_path, write_prompts, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.endswith(f"Interrupted: {len(lines)} of 60 answered. Run the same command again to continue.\n")
    assert re.search(rf"\n +{len(lines)} +\d+ +– ", err), "what was paid is told, and all of it is written"
    assert deluge.inside("prompts.jsonl", "--out", "out.jsonl").returncode == 0
    assert_complete(tmp_path)


def test_being_told_to_end_is_as_good(deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write) -> None:
    process, lines = interrupted(deluge, emulator, tmp_path, write_prompts, signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert "Traceback" not in err
    assert err.endswith(f"Interrupted: {len(lines)} of 60 answered. Run the same command again to continue.\n")
    assert deluge.inside("prompts.jsonl", "--out", "out.jsonl").returncode == 0
    assert_complete(tmp_path)


def test_two_runs_on_one_file_do_not_both_pay(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b")
    with emulator.hold() as gate:
        first = deluge.start("run", "prompts.jsonl", "-o", "out.jsonl", "-m", "gpt-4.1-mini", *FAST)
        gate.wait(2, timeout=60)
        second = deluge.run("prompts.jsonl", "--out", "out.jsonl")
    assert second.returncode == 2
    assert second.stderr.startswith("deluge: Another run is writing to out.jsonl.")
    assert first.wait(20) == 0
    assert emulator.calls == 2


# Errors


def test_rows_with_errors_are_told_and_asked_again(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b", "c")
    emulator.script([None, Fault.error(400, message="no such thing")])
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl", "--max-concurrent-requests", "1")
    assert done.returncode == 1
    assert "1 row has an error. Run the same command again to retry. The first: " in done.stderr
    failed = [row for row in read_rows(tmp_path / "out.jsonl") if row["error"]]
    assert len(failed) == 1
    assert "no such thing" in failed[0]["error"]
    assert failed[0]["completion"] is None

    again = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    assert again.returncode == 0
    assert "1 row with errors will be asked again" in again.stderr
    assert emulator.calls == 4
    assert [(row["index"], row["error"]) for row in read_rows(tmp_path / "out.jsonl")] == [
        (0, None),
        (1, None),
        (2, None),
    ]


def test_a_bad_line_is_an_error_at_its_place_and_the_others_go_on(
    deluge: Deluge, emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "prompts.jsonl").write_text(
        'oops\n\n"a"\n{"id": 3, "prompt": [{"role": "wizard", "content": "x"}]}\n{"id": 4, "messages": []}\n"b"\n["c"]'
    )
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl")
    assert done.returncode == 1
    rows = read_rows(tmp_path / "out.jsonl")
    assert [(row["index"], row["id"], row["error"] is None) for row in rows] == [
        (0, None, False),
        (1, None, True),
        (2, 3, False),
        (3, 4, False),
        (4, None, True),
        (5, None, False),
    ]
    assert rows[0]["error"].startswith("Line 1 is not JSON")
    assert "'wizard'" in rows[2]["error"]
    assert rows[3]["error"].startswith("Line 5 has a prompt that cannot be read")
    assert rows[5]["error"].startswith("Line 7 has a prompt that cannot be read")
    assert emulator.calls == 2
    assert "Stopped" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl"], "deluge: absent.jsonl: No such file or directory\n"),
        (["."], "deluge: .: Is a directory\n"),
        (["prompts.jsonl", "-o", "prompts.jsonl"], "deluge: prompts.jsonl holds the prompts; choose another file"),
        (["prompts.jsonl", "-o", "no/such/place"], "deluge: "),
        (["prompts.jsonl", "--overwrite"], "deluge: --overwrite needs --out"),
        (["prompts.jsonl", "--cache-key", "a"], "deluge: --cache-key needs --cache."),
        (["prompts.jsonl", "--offline"], "deluge: --offline needs --cache."),
        (["prompts.jsonl", "--tag", "a"], "deluge: --tag needs --cache."),
        (["prompts.jsonl", "--cache", "a.db", "--offline", "--cache-mode", "use"], "contradict each other"),
        (["prompts.jsonl", "--cache", "a.db", "--max-age", "7"], "'7' is not a duration such as 90s, 15m, 12h"),
        (["prompts.jsonl", "--cache", "a.db", "--ttl", "0s"], "deluge: --ttl: '0s' is not a duration"),
        (["prompts.jsonl", "--cache", "mysql://me:secret@host"], "deluge: A cache at mysql:// is not known"),
        (["prompts.jsonl", "--temperature", "7"], "deluge: temperature is 7.0; a number from 0 to 2 is needed."),
        (["prompts.jsonl", "--cache-pattern", "all"], "deluge: 'all' is not a prompt cache pattern; known are"),
        (
            ["prompts.jsonl", "--cache-pattern", "none"],
            "deluge: 'none' is no pattern: it is what happens without --cache-pattern.\n",
        ),
        *(
            (
                ["prompts.jsonl", "--cache", name, *offline],
                f"deluge: '{name}' is a pattern of the provider's prompt cache, which goes to --cache-pattern. For a "
                f"local cache in a file of that name, give its path: ./{name}\n",
            )
            for name in PATTERNS
            for offline in ((), ("--offline",))
        ),
        (["prompts.jsonl", "--cache-lifetime", "1h"], "deluge: --cache-lifetime needs --cache-pattern."),
        (["prompts.jsonl", "--cache-warm", "never"], "deluge: --cache-warm needs --cache-pattern."),
        (["prompts.jsonl", "--cache-diagnostics"], "deluge: --cache-diagnostics needs --cache-pattern."),
        (
            ["prompts.jsonl", "--cache-pattern", "automatic", "--cache-lifetime", "7m"],
            "deluge: --cache-lifetime is '7m'; 5m, 30m, 1h or 12h is needed.",
        ),
        (
            ["prompts.jsonl", "--cache", "prompts.jsonl"],
            "has only 4 bytes, so it is truncated or not an SQLite file",
        ),
        (["prompts.jsonl", "--tools", "prompts.jsonl"], "deluge: prompts.jsonl does not hold a list of tools."),
        (["prompts.jsonl", "--limit", "0"], "deluge: --limit is '0'; 1 or more is needed."),
        (["prompts.jsonl", "-m", "frobnicate"], "deluge: The provider of model 'frobnicate' cannot be told"),
        (["prompts.jsonl", "--reasoning-effort", "much"], "deluge: reasoning_effort is 'much'; one of none, minimal"),
        (["prompts.jsonl", "--max-new-tokens", "0"], "deluge: max_new_tokens is 0; at least 1 is needed."),
        (["prompts.jsonl", "--max-attempts", "0"], "deluge: max_attempts is 0; a whole number above 0 is needed."),
        (["prompts.jsonl", "--request-timeout", "0"], "deluge: --request-timeout: '0' is not a number of seconds"),
        (["prompts.jsonl", "--give-up-after", "0"], "deluge: --give-up-after: '0' is not a number of seconds above 0."),
        (["prompts.jsonl", "--give-up-after", "-5"], "deluge: --give-up-after: '-5' is not a number of seconds above"),
        (["prompts.jsonl", "--give-up-after", "nan"], "deluge: --give-up-after: 'nan' is not a number of seconds"),
        (["prompts.jsonl", "--max-concurrent-requests", "0"], "max_concurrent_requests is 0; a whole number above 0"),
        (["prompts.jsonl", "--base-url", "me:secret@host"], "deluge: base_url is not an HTTP address"),
    ],
)
def test_a_command_that_cannot_be_done_is_one_clear_line(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write, arguments: list[str], message: str
) -> None:
    write_prompts("a")
    done = deluge.inside(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not re.search(r"\w=", done.stderr), "no argument of Python"
    assert done.stdout == ""
    assert emulator.calls == 0
    assert (tmp_path / "prompts.jsonl").read_text() == '"a"\n'
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_a_provider_that_never_answers_is_given_up(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts(*(f"question {number}" for number in range(30)))
    emulator.script([Fault.error(503)] * 200)
    done = deluge.inside("prompts.jsonl", "--out", "out.jsonl", "--give-up-after", "1")
    assert done.returncode == 1
    errors = [row["error"] for row in read_rows(tmp_path / "out.jsonl")]
    assert len(errors) == 30
    assert all(errors)
    assert any("No answer has come" in error and "give_up_after is how long" in error for error in errors)


def test_a_missing_file_of_prompts_does_not_empty_the_results(deluge: Deluge, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("precious\n")
    assert deluge.inside("absent.jsonl", "--out", "out.jsonl", "--overwrite").returncode == 2
    assert (tmp_path / "out.jsonl").read_text() == "precious\n"


# Streams


def test_standard_input_to_standard_output(deluge: Deluge, emulator: Emulator) -> None:
    done = deluge("run", "-", "-m", "gpt-4.1-mini", "--progress", "none", input='"a"\n{"id": "x", "question": "b"}\n')
    assert done.returncode == 0
    rows = sorted(map(json.loads, done.stdout.splitlines()), key=lambda row: row["index"])
    assert [(row["index"], row["id"]) for row in rows] == [(0, None), (1, "x")]
    assert done.stderr == ""


def test_a_named_pipe_is_read_once(deluge: Deluge, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = deluge.start("run", "pipe", "-m", "gpt-4.1-mini", *FAST)
    (tmp_path / "pipe").write_text('"a"\n"b"\n')
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sorted(json.loads(line)["index"] for line in out.splitlines()) == [0, 1]


def test_a_row_is_answered_before_the_next_is_there(deluge: Deluge) -> None:
    process = deluge.start("run", "-", "-m", "gpt-4.1-mini", *FAST, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    watchdog = threading.Timer(20, process.kill)
    watchdog.start()
    for number in range(3):
        process.stdin.write(f'"question {number}"\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["index"] == number
    process.send_signal(signal.SIGINT)  # standard input is still open
    assert process.wait() == 130
    watchdog.cancel()
    _, err = process.communicate()
    assert "Interrupted: 3 answered. With --out FILE, a run can be continued." in err


def test_a_changed_stream_is_noticed_where_it_changed(deluge: Deluge, emulator: Emulator) -> None:
    deluge.run("-", "--out", "out.jsonl", input='"a"\n"b"\n')
    done = deluge.run("-", "--out", "out.jsonl", input='"a"\n"c"\n')
    assert done.returncode == 2
    assert "Line 2 of the prompts has changed" in done.stderr
    assert emulator.calls == 2


def test_a_reader_that_has_seen_enough_is_no_error(deluge: Deluge, write_prompts: Write) -> None:
    write_prompts(*(f"prompt {number}" for number in range(300)))
    process = deluge.start("run", "prompts.jsonl", "-m", "gpt-4.1-mini", *FAST, "--max-concurrent-requests", "2")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["error"] is None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(20) == 1
    assert "Traceback" not in err
    assert "Broken" not in err


# What is sent


def test_the_local_cache_answers_another_run(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b")
    deluge.inside("prompts.jsonl", "--out", "one.jsonl", "--cache", "my.db")
    assert (tmp_path / "my.db").stat().st_mode & 0o777 == 0o600
    done = deluge.inside("prompts.jsonl", "--out", "two.jsonl", "--cache", "my.db")
    assert emulator.calls == 2
    one, two = read_rows(tmp_path / "one.jsonl"), read_rows(tmp_path / "two.jsonl")
    assert [row["completion"] for row in one] == [row["completion"] for row in two]
    assert [(row["local_cache_hit"], row["cost"], row["cost_avoided"]) for row in two] == [
        (True, 0.0, row["cost"]) for row in one
    ]
    assert re.search(r"\n +2 +– +2 +\$0\.\d+ ", done.stderr)
    deluge.inside("prompts.jsonl", "--out", "three.jsonl", "--cache", "my.db", "--cache-key", "another")
    assert emulator.calls == 4


def test_options_reach_the_provider(deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    (tmp_path / "tools.json").write_text(
        json.dumps(
            [
                {"type": "function", "function": {"name": "weather", "description": "w", "parameters": schema}},
                {"name": "time", "input_schema": schema},
            ]
        )
    )
    write_prompts("a", {"messages": [{"role": "system", "content": "My JSON"}, {"role": "user", "content": "b"}]})
    sampling = ("--temperature", "0.5", "--top-p", "0.9", "--max-new-tokens", "7", "--json-mode")
    done = deluge.inside("prompts.jsonl", "--system", "Answer in JSON.", *sampling, "--tools", "tools.json")
    assert done.returncode == 0, done.stderr
    bodies = [json.loads(request.body) for request in emulator.requests]
    bodies.sort(key=lambda body: body["messages"][-1]["content"])
    assert [body["messages"][0]["content"] for body in bodies] == ["Answer in JSON.", "My JSON"]
    for body in bodies:
        assert (body["temperature"], body["top_p"]) == (0.5, 0.9)
        assert body["max_completion_tokens"] == 7
        assert body["response_format"] == {"type": "json_object"}
        assert [tool["function"]["name"] for tool in body["tools"]] == ["weather", "time"]


def test_a_prompt_cache_pattern_marks_the_prompt(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts("a", "b", "c")
    system = "You know all this. " * 1200
    options = ("--system", system, "--cache-pattern", "system_and_tools", "--max-concurrent-requests", "1")
    done = deluge("run", "prompts.jsonl", "-m", "claude-haiku-4-5", "-o", "out.jsonl", *options, *FAST)
    assert done.returncode == 0, done.stderr
    usage = [row["usage"] for row in read_rows(tmp_path / "out.jsonl")]
    assert sum(each["cache_write_tokens"] > 0 for each in usage) == 1
    assert sum(each["cache_read_tokens"] > 0 for each in usage) == 2


@pytest.mark.parametrize(
    ("options", "writes", "mark"),
    [
        ((), 1, {"type": "ephemeral"}),
        (("--cache-lifetime", "1h", "--cache-warm", "never"), 3, {"type": "ephemeral", "ttl": "1h"}),
    ],
)
def test_who_writes_to_the_prompt_cache_and_for_how_long_can_be_said(
    deluge: Deluge,
    emulator: Emulator,
    tmp_path: Path,
    write_prompts: Write,
    options: tuple[str, ...],
    writes: int,
    mark: dict[str, str],
) -> None:
    write_prompts("a", "b", "c")
    model = ("-m", "claude-haiku-4-5", "--system", "You know all this. " * 1200, "--cache-pattern", "system_and_tools")
    with emulator.hold() as gate:
        process = deluge.start("run", "prompts.jsonl", "-o", "out.jsonl", *model, *options, *FAST)
        gate.wait(writes, timeout=60)
        gate.release(writes)
        if writes < 3:
            gate.wait(3 - writes, timeout=60)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    usage = [row["usage"] for row in read_rows(tmp_path / "out.jsonl")]
    assert sum(each["cache_write_tokens"] > 0 for each in usage) == writes
    assert sum(each["cache_read_tokens"] > 0 for each in usage) == 3 - writes
    for request in emulator.requests:
        assert json.loads(request.body)["system"][-1]["cache_control"] == mark


@pytest.mark.parametrize("options", [(), ("--cache-lifetime", "30m")])
def test_what_is_wrong_with_the_prompt_cache_is_said_without_python(
    deluge: Deluge, emulator: Emulator, write_prompts: Write, options: tuple[str, ...]
) -> None:
    write_prompts("a", "b", "c")
    pattern = ("--system", "Too short.", "--cache-pattern", "system_and_tools", *options)
    err = deluge("run", "prompts.jsonl", "-m", "claude-haiku-4-5", "-o", "out.jsonl", *pattern, *FAST).stderr
    assert "or use no pattern" in err
    assert ("no cache lifetime of 30m" in err) == bool(options)
    assert not re.search(r"\w=", err), "no argument of Python"


def test_the_provider_is_asked_why_nothing_was_read(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, write_prompts: Write
) -> None:
    write_prompts(
        *(
            {"prompt": [{"role": "system", "content": f"{n} knows. " * 3000}, {"role": "user", "content": "a"}]}
            for n in range(3)
        )
    )
    model = ("-m", "claude-haiku-4-5", "--cache-pattern", "system_and_tools", "--max-concurrent-requests", "1")
    done = deluge("run", "prompts.jsonl", "-o", "out.jsonl", *model, "--cache-diagnostics", *FAST)
    assert done.returncode == 0, done.stderr
    assert "Why prompts were not read from the provider's cache, by its own account: 2 system_changed." in done.stderr
    assert re.search(r"wasted on avoidable writes +\$0\.\d+", done.stderr)
    again = deluge("run", "prompts.jsonl", "-o", "again.jsonl", *model, *FAST)
    assert "by its own account" not in again.stderr
    assert re.search(r"read share +100\.0%", again.stderr)


def test_another_server_can_be_asked(
    deluge: Deluge, monkeypatch: pytest.MonkeyPatch, emulator: Emulator, write_prompts: Write
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    write_prompts("a")
    done = deluge("run", "prompts.jsonl", "-m", "my-model", "--base-url", emulator.openai_base_url)
    row = json.loads(done.stdout)
    assert row["error"] is None
    assert (row["model"], row["cost"]) == ("my-model", None)
    assert re.search("unpriced.*\n.*\n.* 1 ", done.stderr)
    assert emulator.calls == 1
