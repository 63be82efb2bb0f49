"""Answers that are none: what they are called, whether to ask again, and when."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_deluge.models import resolve
from lm_deluge.providers import Failure, Reply, parse, wire_format
from lm_deluge.providers.rate_limits import MAX_WAIT
from lm_deluge.wire import HttpResponse

CLAUDE = resolve("claude-sonnet-4-5", environ={})
GPT = resolve("gpt-4.1", environ={})
NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


def failure(model, status: int, body: Any = b"", **headers: str) -> Failure:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = parse(model, HttpResponse(status=status, headers=named, body=data), now=NOW)
    assert isinstance(found, Failure)
    return found


def anthropic_error(kind: str, message: str = "m", **details: str) -> dict:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return {"type": "error", "error": error, "request_id": "req_1"}


def openai_error(message: str = "m", kind: str | None = None, code: str | int | None = None) -> dict:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# Status of Anthropic's errors page, and whether the official SDK asks again.
ANTHROPIC_ERRORS = [
    (400, "invalid_request_error", False),
    (401, "authentication_error", False),
    (402, "billing_error", False),
    (403, "permission_error", False),
    (404, "not_found_error", False),
    (409, "conflict_error", True),
    (413, "request_too_large", False),
    (429, "rate_limit_error", True),
    (500, "api_error", True),
    (504, "timeout_error", True),
    (529, "overloaded_error", True),
]


@pytest.mark.parametrize(("status", "kind", "retryable"), ANTHROPIC_ERRORS)
def test_anthropic_errors(status: int, kind: str, retryable: bool) -> None:
    found = failure(CLAUDE, status, anthropic_error(kind, "Some words."))
    assert (found.status, found.kind, found.retryable, found.retry_after) == (status, kind, retryable, None)
    assert found.message.startswith(f"{status} {kind} from api.anthropic.com: Some words.")
    # The same error inside a 200 is the same failure.
    assert failure(CLAUDE, 200, anthropic_error(kind, "Some words.")) == found


def test_spend_caps_are_final_and_ramp_limits_are_not() -> None:
    capped = anthropic_error("rate_limit_error", error_code="enforced_spend_limit_reached")
    ramp = anthropic_error("rate_limit_error", error_code="ramp_limit_exceeded")
    assert failure(CLAUDE, 429, capped).code == "enforced_spend_limit_reached"
    assert not failure(CLAUDE, 429, capped).retryable
    assert failure(CLAUDE, 429, ramp).retryable
    for code in ("insufficient_quota", "billing_hard_limit_reached"):
        assert not failure(GPT, 429, openai_error(kind=code, code=code)).retryable
    assert failure(GPT, 429, openai_error(kind="requests", code="rate_limit_exceeded")).retryable


def test_the_server_has_the_last_word_on_retries() -> None:
    assert not failure(GPT, 503, x_should_retry="false").retryable
    assert failure(GPT, 400, x_should_retry="true").retryable
    assert failure(GPT, 503, x_should_retry="maybe").retryable


@pytest.mark.parametrize(
    ("model", "status", "body", "message"),
    [
        (GPT, 400, openai_error("Bad", "invalid_request_error"), "400 invalid_request_error from api.openai.com: Bad"),
        (GPT, 400, {"error": "plain"}, "400 from api.openai.com: plain"),
        (GPT, 422, {"detail": [{"loc": ["body"]}]}, "422 from api.openai.com: [{'loc': ['body']}]"),
        (GPT, 400, {"object": "error", "message": "old"}, "400 from api.openai.com: old"),
        (GPT, 429, [{"error": {"code": 429, "message": "g", "status": "BUSY"}}], "429 BUSY from api.openai.com: g"),
        (GPT, 502, b"<html><h1>Bad\r\n Gateway</h1></html>", "502 from api.openai.com: Bad Gateway"),
        (GPT, 503, b"", "503 from api.openai.com: no message"),
        (GPT, 500, b"\xff\x00\x1b[31mred", "500 from api.openai.com: \ufffd [31mred"),
        (GPT, 307, b"", "307 from api.openai.com: no message. Redirects are not followed; check base_url."),
        (GPT, 401, openai_error("No."), "401 from api.openai.com: No. Check the API key."),
    ],
)
def test_message(model, status: int, body: Any, message: str) -> None:
    assert failure(model, status, body).message == message


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcdefgh_-ijk",
        "sk-proj-abc*********************xyz1",
        "gsk_abcdefgh1234",
        "xai-abcdefgh1234",
        "AIzaSyAbcdefgh123",
        "Bearer abcdefgh.ijkl",
        "bearer abcdefgh1234==",
    ],
)
def test_credentials_are_masked(secret: str) -> None:
    shown = failure(GPT, 401, openai_error(f"Incorrect API key provided: {secret}. Find yours.")).message
    assert "***" in shown
    assert "Find yours" in shown
    assert secret[4:10] not in shown


def test_long_messages_are_cut() -> None:
    shown = failure(GPT, 400, openai_error("x" * 100_000)).message
    assert len(shown) < 600


@pytest.mark.parametrize(
    ("body", "kind", "retryable"),
    [
        (b"", "invalid_response", True),
        (b"not json", "invalid_response", True),
        (b"[]", "invalid_response", True),
        (b"{}", "invalid_response", True),
        (b'{"choices":[],"content":null}', "invalid_response", True),
        (b'{"choices":[{"text":"old"}]}', "invalid_response", True),
        (b"[" * 100_000, "invalid_response", True),
        (b'{"error":{"message":"slow","code":429}}', None, True),
        (b'{"error":{"message":"too long","code":400}}', None, False),
        (b'{"error":{"message":"who knows"}}', None, True),
    ],
)
def test_an_answer_of_another_shape_is_a_failure(body: bytes, kind: str | None, retryable: bool) -> None:
    for model in (GPT, CLAUDE):
        found = failure(model, 200, body)
        assert (found.kind, found.retryable) == (kind, retryable)


def test_an_error_inside_a_choice_is_a_failure() -> None:
    choice = {"error": {"code": 502, "message": "upstream"}, "finish_reason": "error", "message": {"content": "par"}}
    assert failure(GPT, 200, {"choices": [choice]}).status == 502


# When to ask again


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": " 1.5 "}, 1.5),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9.0),
        ({"retry_after": "Fri, 15 Jan 2027 08:00:20 GMT"}, 20.0),
        ({"retry_after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry_after": "Fri, 15 Jan 2097 08:00:00 GMT"}, MAX_WAIT),
        ({"retry_after": "86400"}, MAX_WAIT),
        ({"retry_after": "99999999999999999999"}, None),
        ({"retry_after": "-5"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "1e3"}, None),
        ({"retry_after": "١"}, None),
        ({"retry_after": "Fri, 99 Jan 99999999999 08:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert failure(GPT, 429, **headers).retry_after == seconds


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("20ms", 0.02),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1m30.5s", 90.5),
        ("1h2m3s", MAX_WAIT),
        ("1d", MAX_WAIT),
        ("7.66s", 7.66),
        ("12", 12.0),
        ("0s", None),
        ("", None),
        ("-1s", None),
        ("s", None),
        ("..s", None),
        ("1s1s", None),
        ("nan", None),
        ("99999999999999999999h", None),
    ],
)
def test_openai_pause(reset: str, seconds: float | None) -> None:
    headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}
    assert wire_format(GPT).pause(headers, now=NOW) == seconds
    assert wire_format(GPT).pause({**headers, "x-ratelimit-remaining-tokens": "1"}, now=NOW) is None


def test_the_longest_spent_limit_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "-3",
        "x-ratelimit-reset-tokens": "5s",
    }
    assert wire_format(GPT).pause(headers, now=NOW) == 5.0


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("2027-01-15T08:00:30Z", 30.0),
        ("2027-01-15T09:00:30+01:00", 30.0),
        ("2027-01-15T07:59:00Z", None),
        ("2097-01-15T07:59:00Z", MAX_WAIT),
        ("2027-01-15T08:00:30", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("tomorrow", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("kind", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_anthropic_pause(kind: str, reset: str, seconds: float | None) -> None:
    headers = {f"anthropic-ratelimit-{kind}-remaining": "0", f"anthropic-ratelimit-{kind}-reset": reset}
    assert wire_format(CLAUDE).pause(headers, now=NOW) == seconds
    assert wire_format(CLAUDE).pause({**headers, f"anthropic-ratelimit-{kind}-remaining": "1000"}, now=NOW) is None


@settings(deadline=None)
@given(st.text(), st.sampled_from([GPT, CLAUDE]))
def test_any_header_is_a_wait_within_bounds_or_none(value: str, model) -> None:
    names = ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining")
    resets = ("x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset")
    pause = wire_format(model).pause(dict.fromkeys(names, "0") | dict.fromkeys(resets, value), now=NOW)
    assert pause is None or 0 < pause <= MAX_WAIT
    wire_format(model).pause(dict.fromkeys(names + resets, value), now=NOW)
    headers = dict.fromkeys(("retry-after", "retry-after-ms"), value)
    wait = parse(model, HttpResponse(status=429, headers=headers, body=b""), now=NOW).retry_after
    assert wait is None or 0 <= wait <= MAX_WAIT


# Nothing raises

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "usage",
                    "prompt_tokens",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "logprobs",
                    "type",
                    "text",
                    "error",
                    "details",
                    "id",
                    "cache_creation",
                    "ephemeral_1h_input_tokens",
                    "input_tokens",
                    "thinking",
                    "input",
                    "name",
                    "code",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(deadline=None)
@given(body=st.binary() | JSON_VALUES.map(lambda v: json.dumps(v).encode()), status=st.sampled_from([200, 400, 503]))
def test_parse_never_raises(body: bytes, status: int) -> None:
    for model in (GPT, CLAUDE):
        assert isinstance(parse(model, HttpResponse(status=status, headers={}, body=body), now=NOW), (Reply, Failure))


@settings(deadline=None)
@given(value=JSON_VALUES, usage=JSON_VALUES)
def test_a_reply_is_read_around_whatever_is_strange(value: Any, usage: Any) -> None:
    completion = {"choices": [{"message": {"content": "Hi", "tool_calls": value}, "logprobs": value}], "usage": usage}
    message = {"content": [{"type": "text", "text": "Hi"}, value], "stop_reason": value, "usage": usage}
    for model, body in ((GPT, completion), (CLAUDE, message)):
        found = parse(model, HttpResponse(status=200, headers={}, body=json.dumps(body).encode()), now=NOW)
        assert isinstance(found, Reply)
        assert found.content.completion == "Hi" or found.content.completion.startswith("Hi")
        if found.usage is not None:
            fields = [getattr(found.usage, name) for name in found.usage.__struct_fields__]
            assert all(type(count) is int and 0 <= count < 2**53 for count in fields)


@pytest.mark.parametrize("status", [101, 103, 199])
def test_an_interim_status_is_told_as_it_came(status):
    found = failure(GPT, status)
    assert found.status == status
    assert found.message.startswith(f"{status} from ")
