"""Scripted faults, as clients see them: over real sockets, in both wire formats."""

import http.client
from typing import Any

import msgspec
import pytest

from lm_deluge.testing import Answer, Emulator, Fault, ParsedRequest

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
BODIES: dict[str, dict[str, Any]] = {
    MESSAGES: {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]},
    CHAT: {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hi"}]},
}
both = pytest.mark.parametrize("path", [MESSAGES, CHAT])


def test_faults_are_used_up_one_by_one(emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.error(500), None, Fault.overloaded()])
    statuses = [ask(emulator, BODIES[CHAT], path=CHAT).status for _ in range(4)]
    assert statuses == [500, 200, 529, 200]
    assert [each.fault for each in emulator.requests] == ["error", None, "error", None]


def test_a_refused_request_uses_up_no_fault(emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.overloaded()])
    assert ask(emulator, {}, path=CHAT).status == 400
    assert ask(emulator, BODIES[CHAT], path=CHAT).status == 529


def test_a_callable_chooses_faults(ask: Any) -> None:
    def faults(request: ParsedRequest) -> Fault | None:
        return Fault.error(503) if "bad" in request.text else None

    with Emulator(faults=faults) as emulator:
        good, bad = BODIES[CHAT], {**BODIES[CHAT], "messages": [{"role": "user", "content": "bad"}]}
        assert [ask(emulator, each, path=CHAT).status for each in (good, bad, good)] == [200, 503, 200]


@pytest.mark.parametrize(
    ("status", "anthropic", "openai"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "invalid_request_error"),
        (402, "billing_error", "invalid_request_error"),
        (403, "permission_error", "permission_error"),
        (404, "not_found_error", "invalid_request_error"),
        (408, "invalid_request_error", "timeout_error"),
        (409, "conflict_error", "conflict_error"),
        (429, "rate_limit_error", "requests"),
        (500, "api_error", "server_error"),
        (503, "api_error", "server_error"),
        (504, "timeout_error", "server_error"),
        (529, "overloaded_error", "server_error"),
    ],
)
def test_error_bodies(status: int, anthropic: str, openai: str, emulator: Emulator, ask: Any) -> None:
    for path, kind in ((MESSAGES, anthropic), (CHAT, openai)):
        emulator.script([Fault.error(status)])
        answer = ask(emulator, BODIES[path], path=path)
        assert (answer.status, answer.json["error"]["type"]) == (status, kind)
        assert "retry-after" not in answer.headers
        assert ("request-id" if path == MESSAGES else "x-request-id") in answer.headers


def test_a_rate_limit_says_when_to_come_back(emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.rate_limit(retry_after=2.5)] * 2)
    answer = ask(emulator, BODIES[MESSAGES])
    assert (answer.status, answer.headers["retry-after"]) == (429, "2.5")
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert answer.headers["anthropic-ratelimit-requests-reset"] == "2023-11-14T22:13:21Z"
    answer = ask(emulator, BODIES[CHAT], path=CHAT)
    assert (answer.headers["retry-after"], answer.headers["x-ratelimit-remaining-requests"]) == ("2.5", "0")
    assert answer.json["error"]["code"] == "rate_limit_exceeded"


def test_a_spend_limit_is_not_worth_repeating(emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.spend_limit()] * 2)
    answer = ask(emulator, BODIES[MESSAGES])
    assert (answer.status, answer.json["error"]["type"]) == (429, "rate_limit_error")
    assert answer.json["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}
    assert "retry-after" not in answer.headers
    answer = ask(emulator, BODIES[CHAT], path=CHAT)
    assert (answer.status, answer.json["error"]["code"]) == (429, "insufficient_quota")
    assert "retry-after" not in answer.headers


@both
@pytest.mark.parametrize("stream", [False, True])
def test_the_connection_drops(path: str, stream: bool, emulator: Emulator, ask: Any) -> None:
    sent = {**BODIES[path], "stream": stream}
    emulator.script([Fault.drop()])
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(emulator, sent, path=path)
    emulator.script([Fault.drop(after_bytes=40)])
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(emulator, sent, path=path)
    assert len(caught.value.partial) == 40


@both
def test_a_plain_answer_may_be_no_json(path: str, emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.invalid_json(), Fault.cut_body(), Fault.truncated_stream()])
    for _ in range(3):
        answer = ask(emulator, BODIES[path], path=path)
        assert answer.status == 200
        with pytest.raises(msgspec.DecodeError):
            _ = answer.json


@both
def test_a_stream_may_end_early_fail_or_be_garbage(path: str, emulator: Emulator, ask: Any) -> None:
    sent = {**BODIES[path], "stream": True}
    whole = ask(emulator, sent, path=path)
    last = b"message_stop" if path == MESSAGES else b"[DONE]"
    assert last in whole.body
    emulator.script([Fault.truncated_stream(), Fault.error_mid_stream(message="too busy"), Fault.invalid_json()])
    cut = ask(emulator, sent, path=path)
    assert cut.status == 200
    assert last not in cut.body
    assert 1 < len(cut.events) < len(whole.events)
    failed = ask(emulator, sent, path=path)
    assert failed.status == 200
    assert failed.events[-1]["error"]["message"] == "too busy"
    if path == MESSAGES:
        assert failed.events[-1]["error"]["type"] == "overloaded_error"
        assert failed.body.count(b"event: error\n") == 1
    garbage = ask(emulator, sent, path=path)
    with pytest.raises(msgspec.DecodeError):
        _ = garbage.events


def test_any_answer_at_all(emulator: Emulator, ask: Any) -> None:
    emulator.script([Fault.raw(502, b"<html>Bad gateway</html>", headers=(("Content-Type", "text/html"),))])
    answer = ask(emulator, BODIES[CHAT], path=CHAT)
    assert (answer.status, answer.body) == (502, b"<html>Bad gateway</html>")
    assert answer.headers["content-type"] == "text/html"


def test_a_hanging_request_ends_when_the_client_leaves(emulator: Emulator, until: Any) -> None:
    emulator.script([Fault.hang()])
    connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=0.05)
    headers = {"authorization": "Bearer k", "content-type": "application/json"}
    connection.request("POST", CHAT, msgspec.json.encode(BODIES[CHAT]), headers)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    until(lambda: emulator.stats().in_flight == 1)
    connection.close()
    until(lambda: emulator.stats().in_flight == 0)
    assert emulator.requests[0].status == 0


def test_an_answer_that_breaks_off_has_filled_the_cache(emulator: Emulator, ask: Any) -> None:
    """The provider did the work: what breaks afterwards does not take the entry back."""
    sent = {**BODIES[MESSAGES], "system": "word" * 5000, "cache_control": {"type": "ephemeral"}}
    emulator.script([Fault.cut_body()])
    ask(emulator, sent)
    assert ask(emulator, sent).json["usage"]["cache_read_input_tokens"] == 5001


def test_refusals_filters_and_empty_answers_are_answers(ask: Any) -> None:
    answers = {
        "refuse": Answer(refusal="I cannot help with that."),
        "filter": Answer(text="The first part", finish="content_filter"),
        "empty": Answer(),
        "pause": Answer(text="wait", finish="pause"),
    }
    with Emulator(responder=lambda request: answers[request.text]) as emulator:

        def both_of(text: str) -> tuple[Any, Any]:
            content = [{"role": "user", "content": text}]
            message = ask(emulator, {**BODIES[MESSAGES], "messages": content}).json
            return message, ask(emulator, {**BODIES[CHAT], "messages": content}, path=CHAT).json["choices"][0]

        message, choice = both_of("refuse")
        assert (message["stop_reason"], message["content"]) == ("refusal", [])
        assert message["stop_details"]["explanation"] == "I cannot help with that."
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", None)
        assert choice["message"]["refusal"] == "I cannot help with that."
        message, choice = both_of("filter")
        assert (message["stop_reason"], choice["finish_reason"]) == ("refusal", "content_filter")
        assert choice["message"]["content"] == "The first part"
        message, choice = both_of("empty")
        assert (message["stop_reason"], message["content"]) == ("end_turn", [])
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")
        assert both_of("pause")[0]["stop_reason"] == "pause_turn"
