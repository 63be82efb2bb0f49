"""What meets other answers on its way in, and bundles by somebody who means harm."""

import base64
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge import canonical
from lm_deluge.cache import MemoryCache
from lm_deluge.cache.admin.archive import load, reading
from lm_deluge.cache.admin.archive.bundle import MediaLine, PrefixLine, seal
from lm_deluge.cache.codec import encode
from lm_deluge.cache.stores.mapping import MappingStore
from lm_deluge.cache.stores.memory import MemoryStore
from lm_deluge.cache.stores.sqlite import SqliteStore
from lm_deluge.errors import CacheError, ConfigError
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters

from ..helpers import answer, prompt
from .making import NOW, bundle, contents, entry, filled, loaded, resealed

# What is said of it


def test_reports_count_in_the_singular_and_a_rehearsal_says_would() -> None:
    one, ours = filled(entry(prompt("b"), answer("b"))), filled(entry(prompt("a"), answer("ours")))
    assert str(loaded(bundle(one), ours)[1]) == "1 entry added, 0 were there already"
    assert str(loaded(bundle(one), ours)[1]) == "0 entries added, 1 was there already"
    theirs = bundle(filled(entry(prompt("a"), answer("theirs"))))
    _, rehearsed = loaded(theirs, ours, on_conflict="replace", dry_run=True)
    assert "0 entries would be added" in str(rehearsed)
    assert "1 is there with another answer; would be replaced" in str(rehearsed)
    _, done = loaded(theirs, ours, on_conflict="replace")
    assert "1 is there with another answer; replaced" in str(done)


# Conflicts


def test_another_answer_is_a_conflict_that_is_reported() -> None:
    ours = filled(entry(prompt("a"), answer("ours"), created=NOW - 86_400))
    theirs = filled(entry(prompt("a"), answer("theirs")), entry(prompt("b"), answer("b")))
    before = contents(ours)
    _, report = loaded(bundle(theirs), ours)
    assert (report.added, report.identical, report.conflicts, report.replaced) == (1, 0, 1, 0)
    conflict = report.first_conflicts[0]
    assert (conflict.stored_at, conflict.incoming_at) == (NOW - 86_400, NOW)
    assert "stored is gpt-4.1-mini-2025-04-14 of 2027-01-14 08:00" in str(report)
    assert before.items() <= contents(ours).items()
    _, report = loaded(bundle(theirs), ours, on_conflict="replace")
    assert (report.identical, report.conflicts, report.replaced) == (1, 1, 1)
    assert contents(ours) == contents(theirs)


def test_fail_stops_before_the_first_conflict() -> None:
    made = [entry(prompt(n), answer(n)) for n in range(6)]
    ours = filled(entry(prompt(3), answer("ours")))
    _, report = loaded(bundle(filled(*made)), ours, on_conflict="fail")
    assert "another answer is stored under the same key" in (report.stopped or "")
    assert (report.added, len(ours)) == (3, 4)
    assert not report.is_complete


def test_a_dry_run_says_the_same_and_changes_nothing() -> None:
    damaged = entry(prompt("c"), answer("c"))
    ours = filled(entry(prompt("a"), answer("ours")), msgspec.structs.replace(damaged, value=b"\x02damaged"))
    lines = bundle(filled(*(entry(prompt(text), answer(text)) for text in "abc")))
    before = {stored.key: stored.value for stored in ours.scan()}
    _, dry = loaded(lines, ours, dry_run=True, on_conflict="replace")
    assert {stored.key: stored.value for stored in ours.scan()} == before
    assert not list(ours.quarantined())
    _, wet = loaded(lines, ours, on_conflict="replace")
    assert msgspec.structs.replace(dry, dry_run=False) == wet
    assert (wet.added, wet.replaced) == (2, 1)
    assert [entry.value for entry in ours.quarantined()] == [b"\x02damaged"]


def test_two_answers_in_one_bundle_are_a_conflict_too() -> None:
    first, second = entry(prompt("a"), answer("first")), entry(prompt("a"), answer("second"))
    lines = bundle(filled(first))
    lines[1:1] = bundle(filled(second))[1:-1]
    store, report = loaded(lines)
    assert (report.added, report.conflicts) == (1, 1)
    assert next(iter(contents(store).values()))[1].response == answer("second")


def test_another_namespace_means_other_keys() -> None:
    with MemoryCache("project-x") as cache:
        cache.put(prompt("a"), answer("a"))
        lines = bundle(cache.backend)
    store, report = loaded(lines, namespace="project-y")
    assert report.is_complete
    conversation = canonical.conversation_key("project-y", prompt("a").digest)
    assert list(contents(store)) == [canonical.entry_key(conversation, None)]
    unchecked, _ = loaded(bundle(filled(msgspec.structs.replace(entry(prompt("a"), answer("a")), request=b""))))
    _, report = loaded(bundle(unchecked), namespace="project-y")
    assert (report.added, report.refused) == (0, 1)


def test_stores_that_cannot_be_scanned_take_bundles() -> None:
    data: dict[str, bytes] = {}
    lines = bundle(filled(entry(prompt("a"), answer("a"))))
    _, report = loaded(lines, MappingStore(data, "default"))
    assert report.added == len(data) == 1
    assert loaded(lines, MappingStore(data, "default"))[1].identical == 1


def test_a_bundle_of_another_key_scheme_gets_the_keys_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = bundle(filled(entry(prompt("a"), answer("a"))))
    older = [resealed(lines[0], lambda header: {**header, "keys": 0})]
    older += [resealed(lines[1], lambda line: {**line, "key": "ab" * 32}), lines[2]]
    store, report = loaded(older)
    assert report.added == 1
    assert contents(store) == contents(filled(entry(prompt("a"), answer("a"))))


def test_options_without_meaning_are_refused() -> None:
    lines: list[bytes] = bundle(MemoryStore())
    for options in ({"on_conflict": "merge"}, {"namespace": ""}, {"namespace": 3}):
        with pytest.raises(ConfigError):
            loaded(lines, **options)


def test_what_was_stored_stays_when_the_store_fails() -> None:
    class Full(MemoryStore):
        def put_if_unchanged(self, entries: Any, found: Any) -> list[bool]:
            if len(self) >= 256:
                raise CacheError("the disk is full")
            return super().put_if_unchanged(entries, found)

    lines = bundle(filled(*(entry(prompt(n), answer(n)) for n in range(600))))
    store = Full()
    with pytest.raises(CacheError, match="the disk is full"):
        loaded(lines, store)
    assert len(store) == 256
    copied, report = loaded(lines, filled(*(entry(prompt(n), answer(n)) for n in range(256))))
    assert (report.added, report.identical, len(copied)) == (344, 256, 600)


# Hostile bundles


def deep(levels: int) -> Any:
    nested: Any = []
    for _ in range(levels):
        nested = [nested]
    return nested


def in_response(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda line: {**line, "response": {**line["response"], **fields}}


def in_facts(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda line: {**line, "facts": {**line["facts"], **fields}}


def in_request(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda line: {**line, "request": {**line["request"], **fields}}


def in_line(**fields: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda line: {**line, **fields}


SECRET = {"type": "file", "path": "/etc/hostname", "media_type": "text/plain"}
PACKED = base64.b64encode(msgspec.msgpack.encode(answer("another"))).decode()

FORGERIES = {
    "the key of another prompt": in_line(key=canonical.conversation_key("default", prompt("b").digest).hex()),
    "the namespace of another cache": in_line(namespace="project-x"),
    "no namespace": in_line(namespace=""),
    "a key in capitals": lambda line: {**line, "key": line["key"].upper()},
    "a short key": in_line(key="ab"),
    "a field nobody knows": in_line(code="import os"),
    "a path in the request": in_request(messages=[{"role": "user", "parts": [SECRET]}]),
    "a path in the response": in_response(content={"role": "assistant", "parts": [SECRET]}),
    "an answer that is not the one it shows": in_line(exact=PACKED),
    "an exact answer that is none": in_line(exact=base64.b64encode(b"\xdd\xff\xff\xff\xff").decode()),
    "an exact answer that is not base64": in_line(exact="*"),
    "deep log probabilities": in_response(logprobs=[{"a": deep(200)}]),
    "log probabilities without end": in_response(logprobs=[{"a": deep(900)}]),
    "deep parameters": in_request(parameters={"model": "m", "params": {"a": deep(200)}}),
    "deep arguments": in_request(
        messages=[{"role": "assistant", "parts": [{"type": "tool_call", "id": "", "name": "", "arguments": deep(300)}]}]
    ),
    "too many tokens": in_facts(input_tokens=2**63),
    "fewer tokens than none": in_facts(output_tokens=-1),
    "a run that no store can hold": in_facts(run=2**64 - 1),
    "a day after the end of days": in_facts(created=1e300),
    "a day before all days": in_facts(created=-1.0),
    "an end after the end of days": in_line(expires=1e300),
    "a sample that no store can hold": in_request(sample=2**64),
    "less than the first sample": in_request(sample=-1),
    "a line that is missing": in_request(messages=["ab" * 32]),
    "a line that is no name": in_request(before="../../etc"),
    "a role nobody has": in_request(messages=[{"role": "root", "parts": []}]),
    "a scope nobody has": in_request(scope="everything"),
    "a scope without what it needs": lambda line: {
        **line,
        "request": {"messages": line["request"]["messages"], "scope": "request"},
    },
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_entry_is_refused_and_the_others_are_taken(forgery: str, tmp_path: Path) -> None:
    lines = bundle(filled(entry(prompt("a"), answer("a")), entry(prompt("z"), answer("z"))))
    lines[1] = resealed(lines[1], FORGERIES[forgery])
    store = SqliteStore(tmp_path / "cache.db")
    _, report = loaded(lines, store)
    assert (report.added, report.refused) == (1, 1), str(report)
    assert report.left[0].what == "line 2"
    assert [stored.key for stored in store.scan()] == [entry(prompt("z"), answer("z")).key]
    store.close()


def test_references_cannot_run_in_circles_or_name_other_kinds() -> None:
    lines = bundle(filled(entry(prompt("a"), answer("a"))))
    name, media = seal(MediaLine(b"x"))
    for forged in (in_request(messages=[name]), in_request(before=name), in_request(parameters=name)):
        _, report = loaded([lines[0], media, resealed(lines[1], forged), lines[2]])
        assert "another kind" in report.left[0].reason
    _, report = loaded([lines[0], resealed(lines[1], in_request(messages=[name])), media, lines[2]])
    assert "missing before it" in report.left[0].reason


def test_a_chain_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = bundle(filled(entry(prompt("a"), answer("a"))))
    chain, before = [], None
    for _ in range(100_002):
        before, line = seal(PrefixLine([], before))
        chain.append(line)
    _, report = loaded([lines[0], *chain, resealed(lines[1], in_request(before=before)), lines[2]])
    assert "more than 100,000 messages" in report.left[0].reason


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    lines = bundle(filled(entry(prompt("a"), answer("a")), entry(prompt("b"), answer("b"))))
    lines.insert(1, b"x" * 5_000_000 + b"\n")
    store, report = loaded(lines, max_line_bytes=10_000)
    assert [(left.what, left.reason) for left in report.left] == [("line 2", "it is too long")]
    assert len(store) == 2
    _, report = loaded([*lines[:1], b"x" * 5_000_000], max_line_bytes=10_000)
    assert report.stopped is not None


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FREE_BYTES", 1024 * 1024)
    lines = bundle(filled(entry(prompt("a"), answer("a"))))
    path = tmp_path / "a.jsonl.gz"
    for bomb in (b"\0" * 100_000_000, b"[" * 50_000_000 + b"\n", b"\n" * 3_000_000):
        path.write_bytes(gzip.compress(b"".join(lines[:2]) + bomb, 9))
        store = MemoryStore()
        report = load(store, path, max_line_bytes=100_000)
        assert "unpacks to more than" in (report.stopped or "")
        assert len(store) == 1


def test_deep_json_is_no_crash() -> None:
    lines = bundle(filled(entry(prompt("a"), answer("a"))))
    for hostile in (b"[" * 1_000_000, b'{"a":' * 100_000):
        line = resealed(lines[1], lambda _: {})
        assert loaded([lines[0], line[:76] + hostile + b"\n", *lines[1:]])[1].added == 1
    import hashlib

    content = b'{"type":"entry","x":' + b"[" * 200_000
    line = b'{"sha256":"' + hashlib.sha256(content).hexdigest().encode() + b'",' + content[1:] + b"\n"
    _, report = loaded([lines[0], line, *lines[1:]])
    assert (report.added, report.refused) == (1, 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=6) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_change_of_a_field_is_refused_or_harmless(data: st.DataObject) -> None:
    asked = Conversation.system("s").user("a", image=b"\x89PNG\r\n\x1a\n1")
    lines = bundle(filled(entry(asked, answer("a"), parameters=Parameters(model="m", params={"a": 1}), sample=2)))

    def change(line: dict[str, Any]) -> None:
        place: Any = line
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            place[key] = data.draw(json_values)
            return

    number = data.draw(st.integers(1, len(lines) - 2))
    lines[number] = resealed(lines[number], change)
    store, report = loaded(lines)
    assert report.added + report.refused >= 1
    for stored in contents(store).values():
        assert stored[2] is None or stored[2].conversation.is_loaded


def test_a_file_object_is_read_and_not_closed() -> None:
    file = io.BytesIO(b"".join(bundle(filled(entry(prompt("a"), answer("a"))))))
    assert load(MemoryStore(), file).added == 1
    assert not file.closed


def test_values_of_other_keys_do_not_count_as_there() -> None:
    wanted = entry(prompt("a"), answer("a"))
    ours = filled(msgspec.structs.replace(wanted, value=encode(bytes(32), answer("a"))))
    store, report = loaded(bundle(filled(wanted)), ours)
    assert report.added == 1
    assert contents(store) == contents(filled(wanted))
