"""What others have written drives no terminal: a provider's words are words, and few; JSON spells out what could."""

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge import APIResponse, Conversation, Message, PromptCache
from lm_deluge._printable import printable_json, shown
from lm_deluge.cache import SqliteCache
from lm_deluge.cache.admin.archive import export, load
from lm_deluge.cache.admin.archive.incoming import Conflict
from lm_deluge.cache.admin.reports import Left
from lm_deluge.cli.results import Results
from lm_deluge.cli.rows import Row
from lm_deluge.errors import PromptCacheWarning
from lm_deluge.events import RunReport, count_word
from lm_deluge.models import resolve
from lm_deluge.providers import Failure, Reply, parse
from lm_deluge.testing import Fault
from lm_deluge.wire import HttpResponse

GPT = resolve("gpt-4.1", environ={})
CLAUDE = resolve("claude-haiku-4-5", environ={})
EVIL = "\x1b]0;x\x07\x1b[2J\x9b31m\u202eevil\u2066\u2028\U000e0041 " + "x" * 500
GOOD = "good é😀 👨\u200d👩\u200d👧 שלום हिन्दी"


def dangerous(text: str) -> set[str]:
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return {each for each in text if each not in "\n\u200c\u200d" and unicodedata.category(each) in kinds}


def read(model: Any, body: Any, status: int = 200) -> Any:
    return parse(model, HttpResponse(status=status, headers={}, body=json.dumps(body).encode()), now=0.0)


@pytest.mark.parametrize("word", [EVIL, "two words", "x" * 65, "é", "a\n", 7, ["a"], {"a": 1}, None, ""])
def test_words_of_a_provider_are_words(word: Any) -> None:
    usage = {"service_tier": word, "speed": word, "inference_geo": word}
    claude = {"content": [], "stop_reason": word, "usage": usage, "diagnostics": {"cache_miss_reason": {"type": word}}}
    gpt = {"choices": [{"message": {"content": "hi"}, "finish_reason": word}], "service_tier": word}
    for model, body in ((CLAUDE, claude), (GPT, gpt)):
        reply = read(model, body)
        assert isinstance(reply, Reply)
        assert reply.finish_reason in (None, "other")
        assert set((reply.service_tier or "other").split("+")) == {"other"}
        assert reply.cache_miss_reason in (None, "other")


def test_good_words_are_kept() -> None:
    reply = read(CLAUDE, {"content": [], "stop_reason": "pause_turn", "model": "a/b:c@1 (x)", "id": "msg_1-2.3"})
    assert (reply.finish_reason, reply.model, reply.response_id) == ("pause_turn", "a/b:c@1 (x)", "msg_1-2.3")
    reply = read(CLAUDE, {"content": [], "diagnostics": {"cache_miss_reason": {"type": "messages_changed"}}})
    assert reply.cache_miss_reason == "messages_changed"


@pytest.mark.parametrize("model", [GPT, CLAUDE])
def test_names_and_ids_are_printable_and_bounded(model: Any) -> None:
    body = {"choices": [{"message": {"content": "hi"}}], "content": [], "model": EVIL, "id": EVIL}
    reply = read(model, body)
    assert reply.response_id is None
    assert not dangerous(reply.model)
    assert len(reply.model) <= 200
    assert "evil" in reply.model


@pytest.mark.parametrize("status", [200, 400])
def test_kinds_and_codes_of_errors_are_printable_and_bounded(status: int) -> None:
    found = read(GPT, {"error": {"message": EVIL, "type": EVIL, "code": EVIL, "status": EVIL}}, status)
    assert isinstance(found, Failure)
    assert not dangerous(f"{found.message} {found.kind} {found.code}")
    assert len(found.kind or "") <= 64
    assert len(found.code or "") <= 64
    assert len(found.message) < 700


def test_a_run_keeps_a_few_of_a_providers_words(emulator: Any, make_client: Any) -> None:
    def answer(number: int) -> Fault:
        body = {
            "type": "message",
            "content": [{"type": "text", "text": "hi"}],
            "usage": {"input_tokens": 9},
            "diagnostics": {"cache_miss_reason": {"type": f"reason_{number}"}},
        }
        return Fault.raw(200, json.dumps(body).encode())

    client = make_client("claude-haiku-4-5", max_attempts=1)
    emulator.script([answer(number) for number in range(50)])
    cache = PromptCache("system_and_tools", diagnostics=True, warm=False)
    with pytest.warns(PromptCacheWarning) as warned:
        client.process_prompts_sync([f"p{n}" for n in range(50)], cache=cache, show_progress=False)
    reasons = client.last_report.cache_miss_reasons
    assert sum(reasons.values()) == 50
    assert len(reasons) == 33
    assert reasons["other"] == 18
    assert len(warned) < 40


def test_sums_of_reports_keep_a_few_too() -> None:
    total = RunReport()
    for number in range(100):
        total += RunReport(cache_miss_reasons={f"reason_{number}": 1})
    assert (len(total.cache_miss_reasons), total.cache_miss_reasons["other"]) == (33, 68)
    counts = {"a": 1}
    count_word(counts, "a", 2)
    assert counts == {"a": 3}


def test_reports_are_safe_to_print() -> None:
    """Those of a file are somebody else's."""
    reports = [
        RunReport(cache_miss_reasons={EVIL: 1}, hits_by_store={EVIL: 2}, prompt_cache_hits={EVIL: 1}),
        Left(EVIL, EVIL),
        Conflict(key=EVIL, stored_model=EVIL, stored_at=0, incoming_model=EVIL, incoming_at=0),
    ]
    for report in reports:
        assert not dangerous(str(report)), report
        assert "evil" in str(report) or "\\x1b" in str(report)
    many = RunReport(cache_miss_reasons={f"reason_{number}": 1 for number in range(100)})
    assert str(many).endswith("and 68 more")


# JSON


def test_every_character_is_the_same_value_and_none_is_dangerous() -> None:
    beyond = range(0x3000, sys.maxunicode, 997)  # of the many letters that are alike, and of what is not assigned
    text = "".join(chr(number) for number in (*range(0x3000), *beyond, *range(0xE0000, 0xE0100)))
    text = "".join(each for each in text if unicodedata.category(each) != "Cs")
    encoded = msgspec.json.encode({text: text})
    printable = printable_json(encoded)
    assert json.loads(printable) == {text: text}
    assert not dangerous(printable.decode())
    assert printable_json(printable) == printable


@pytest.mark.parametrize("text", ["plain", GOOD, "a b", '"quoted" \\ back', ""])
def test_what_people_read_stays_as_it_is(text: str) -> None:
    encoded = msgspec.json.encode(text)
    assert printable_json(encoded) == encoded
    assert shown(text, lines=True) == text


def test_results_in_a_file_are_safe_to_look_at(tmp_path: Path) -> None:
    row = Row(index=0, line=1, digest="0" * 16)
    with Results.open(tmp_path / "out.jsonl", "x") as results:
        results.write(row, {"index": 0, "completion": EVIL + GOOD, "error": None})
    written = (tmp_path / "out.jsonl").read_text()
    assert not dangerous(written)
    assert GOOD in written
    assert json.loads(written)["completion"] == EVIL + GOOD
    with Results.open(tmp_path / "out.jsonl", "x") as results:
        assert results.answered == 1, "and can be gone on with"


def test_bundles_are_safe_to_look_at_and_hold_the_same(tmp_path: Path) -> None:
    prompt, answer = Conversation.user(EVIL + GOOD), APIResponse(content=Message.ai(EVIL + GOOD), finish_reason="stop")
    with SqliteCache(tmp_path / "a.db") as cache, SqliteCache(tmp_path / "b.db") as other:
        cache.put(prompt, answer)
        export(cache.backend, tmp_path / "b.jsonl")
        assert not dangerous((tmp_path / "b.jsonl").read_text())
        assert load(other.backend, tmp_path / "b.jsonl").added == 1
        found = other.get(prompt)
        assert found is not None
        assert found.completion == EVIL + GOOD
