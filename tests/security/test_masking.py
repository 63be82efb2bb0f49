"""Servers repeat credentials in many ways; none of them gets one into a message, and the message stays readable."""

import base64
import html
import json
import threading
from typing import Any
from urllib.parse import quote

import pytest

from lm_deluge._secrets import Secrets
from lm_deluge.errors import ConnectError
from lm_deluge.models import resolve
from lm_deluge.providers import Failure, StreamReader, parse
from lm_deluge.testing import Emulator, Fault
from lm_deluge.wire import HttpResponse

KEY = "my/Secret+gateway/key-0123456789"
SECRETS = Secrets([KEY])
GPT = resolve("gpt-4.1", environ={})
CLAUDE = resolve("claude-sonnet-4-5", environ={})
PIECES = {KEY[start : start + 12].lower() for start in range(len(KEY) - 11)}
SPELLINGS = {
    "as it is": KEY,
    "capitals": KEY.upper(),
    "slashes escaped once more": KEY.replace("/", r"\/"),
    "escaped twice": json.dumps(json.dumps(KEY)).replace("/", r"\\/"),
    "letters as numbers": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "letters as numbers of Python": "".join(f"\\x{ord(letter):02x}" for letter in KEY),
    "percent": quote(KEY, safe=""),
    "percent twice": quote(quote(KEY, safe=""), safe=""),
    "percent three times": quote(quote(quote(KEY, safe=""), safe=""), safe=""),
    "each letter by percent": "".join(f"%{ord(letter):02x}" for letter in KEY),
    "percent in small letters": quote(KEY, safe="").lower(),
    "entities": "".join(f"&#{ord(letter)};" for letter in KEY),
    "hexadecimal entities": "".join(f"&#x{ord(letter):x};" for letter in KEY),
    "named entities": html.escape(KEY).replace("/", "&sol;"),
    "two lines": f"{KEY[:16]}\n{KEY[16:]}",
    "spaced out": " ".join(KEY),
    "soft hyphens": "\u00ad".join(KEY),
    "no width": "\u200b".join(KEY),
    "quoted": f"'{KEY}'",
    "within a word": f"x{KEY}x",
    "the first half": KEY[: len(KEY) // 2],
    "the second half": KEY[len(KEY) // 2 :],
    "without its end": KEY[:-3],
    "again and again": KEY * 3,
    "hex": KEY.encode().hex(),
    "hex in capitals": KEY.encode().hex().upper(),
    "hex in pairs": KEY.encode().hex(" "),
    "hex of the header": f"Bearer {KEY}".encode().hex(),
    "half of its hex": KEY.encode().hex()[:32],
    "Base64": base64.b64encode(KEY.encode()).decode().rstrip("="),
    "Base64 for URLs": base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    "Base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode().rstrip("="),
    "Base64 of the header for URLs": base64.urlsafe_b64encode(f"Bearer {KEY}".encode()).decode().rstrip("="),
    "Base64, percent-encoded": quote(base64.b64encode(KEY.encode()).decode().rstrip("="), safe=""),
    "Base64, escaped": base64.b64encode(KEY.encode()).decode().rstrip("=").replace("/", r"\/"),
    "Base64 in two lines": "\n".join([(coded := base64.b64encode(KEY.encode()).decode().rstrip("="))[:20], coded[20:]]),
}


def assert_hidden(text: str) -> None:
    assert not any(piece in text.lower() for piece in PIECES), text
    assert "***" in text


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=list(SPELLINGS))
def test_a_key_is_masked_however_it_is_written(spelling: str) -> None:
    shown = SECRETS.hide(f"bad key {spelling} of yours")
    assert shown.startswith("bad key ")
    assert shown.endswith(" of yours")
    assert_hidden(shown)
    assert len(shown) < 60


@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode], ids=["standard", "for URLs"])
@pytest.mark.parametrize("before", ["", "u", "u:", "u:p", "x-pwd: ", '{"authorization": "Bearer '])
def test_a_key_in_something_longer_that_was_encoded_is_masked(before: str, alphabet: Any) -> None:
    """What is left beside the mask gives at most a letter of the key away."""
    coded = alphabet(f'{before}{KEY}"}} and more'.encode()).decode()
    shown = SECRETS.hide(f"refused: {coded}")
    assert shown.startswith("refused: ")
    first, mask, last = shown.removeprefix("refused: ").partition("***")
    assert mask
    left = [
        base64.urlsafe_b64decode(
            (each.rstrip("=")[start:].translate({43: 45, 47: 95}) + "A" * 8)[: 4 * (len(each) // 4)]
        )
        for each in (first, last)
        for start in range(4)
    ]
    assert not any(KEY[at : at + 3].encode() in each for each in left for at in range(len(KEY) - 2)), shown


@pytest.mark.parametrize("secret", ["12345", "hunter2"])
def test_short_secrets_are_masked_where_their_encoding_stands_by_itself(secret: str) -> None:
    for data in (secret.encode(), f"Bearer {secret}".encode()):
        coded = base64.b64encode(data).decode().rstrip("=")
        assert Secrets([secret]).hide(f"got {coded}.") == "got ***."
        assert Secrets([secret]).hide(f"got {data.hex()}.") == "got ***."
        assert Secrets([secret]).hide(f"got x{coded}.") == f"got x{coded}."


def test_what_is_not_covered_is_what_the_document_says() -> None:
    """Were one of these covered, ``docs/security.md`` would have to be corrected."""
    twice = base64.b64encode(base64.b64encode(KEY.encode())).decode()
    for coded in (KEY[::-1], KEY.encode().hex(":"), base64.b32encode(KEY.encode()).decode(), twice):
        assert "***" not in SECRETS.hide(coded), coded


def test_halves_that_stand_apart_are_masked() -> None:
    shown = SECRETS.hide(f"it begins with {KEY[:16]} and ends in {KEY[16:]}.")
    assert shown == "it begins with *** and ends in ***."


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("hunter2", "password hunter2 refused", "password *** refused"),
        ("hunter2", "password HUNTER2, refused", "password ***, refused"),
        ("hunter2", "the hunter21 refused", "the hunter21 refused"),
        ("12345", "pin=12345", "pin=***"),
        ("Basic dXNlcjpwYXNz", "I got dXNlcjpwYXNz", "I got ***"),
        ("Bearer abc.def.ghi", "no bearer here", "no bearer here"),
        ("session=c00kie-1; theme=dark", "c00kie-1 is over", "*** is over"),
        # Words that people give as a key where none is needed. To mask them would spoil messages.
        ("EMPTY", "the prompt is empty", "the prompt is empty"),
        ("k", "ok", "ok"),
        ("", "nothing", "nothing"),
    ],
)
def test_what_is_a_secret_and_what_is_a_word(secret: str, text: str, shown: str) -> None:
    assert Secrets([secret]).hide(text) == shown


def test_secrets_are_not_shown_by_what_holds_them() -> None:
    assert KEY not in f"{SECRETS} {SECRETS!r}"


def test_threads_that_meet_their_first_error_at_once_both_mask() -> None:
    secrets, shown = Secrets([KEY]), []
    barrier = threading.Barrier(4)

    def hide() -> None:
        barrier.wait()
        shown.append(secrets.hide(KEY))

    threads = [threading.Thread(target=hide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown == ["***"] * 4


# Where it may stand

TEXT = f"bad key {KEY} of yours"
PLACES: dict[str, tuple[int, Any]] = {
    "an error status": (401, {"error": {"message": TEXT}}),
    "status 200": (200, {"error": {"message": TEXT, "code": 401}}),
    "status 200, as text": (200, {"error": TEXT}),
    "the choice": (200, {"choices": [{"error": {"message": TEXT, "code": 502}}]}),
    "beside an answer": (200, {"choices": [{"message": {"content": "hi"}}], "error": {"message": TEXT}}),
    "the type": (401, {"error": {"message": "bad key of yours", "type": KEY}}),
    "the code": (401, {"error": {"message": "bad key of yours", "code": KEY}}),
    "the details": (422, {"detail": [{"loc": ["header"], "msg": TEXT}]}),
    "an array": (400, [{"error": {"message": TEXT, "status": "BAD"}}]),
    "the page of a proxy": (502, f"<html><h1>bad key <b>{KEY}</b> of yours</h1></html>".encode()),
    "JSON within the message": (400, {"error": {"message": json.dumps({"error": TEXT}).replace("/", r"\/")}}),
    "no JSON": (400, f'{{"error": "bad key {KEY} of yours'.encode()),
    "where a long message is cut": (400, {"error": {"message": "bad key of yours ".ljust(484, "x") + KEY}}),
    "where a message without end is cut": (400, {"error": {"message": "bad key of yours ".ljust(3984, " ") + KEY}}),
}


@pytest.mark.parametrize("model", [GPT, CLAUDE], ids=["openai", "anthropic"])
@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_an_answer_gets_a_key_through(place: str, model: Any) -> None:
    status, body = PLACES[place]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = parse(model, HttpResponse(status=status, headers={}, body=data), now=0.0, secrets=SECRETS)
    assert isinstance(found, Failure)
    said = f"{found.message} {found.kind} {found.code}"
    assert not any(piece in said.lower() for piece in PIECES), said
    assert "bad key" in found.message


STREAMS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "the first event": (CLAUDE, [{"type": "error", "error": {"type": "authentication_error", "message": TEXT}}]),
    "after text": (GPT, [{"choices": [{"delta": {"content": "hi"}}]}, {"error": {"message": TEXT, "code": 500}}]),
    "in a choice": (GPT, [{"choices": [{"error": {"message": TEXT, "code": 502}}]}]),
    "in the type": (CLAUDE, [{"type": "error", "error": {"type": KEY, "message": "bad key"}}]),
}


@pytest.mark.parametrize("place", STREAMS)
def test_no_event_of_a_stream_gets_a_key_through(place: str) -> None:
    model, events = STREAMS[place]
    reader = StreamReader(model, secrets=SECRETS)
    for event in events:
        reader.feed(b"data: " + json.dumps(event).encode().replace(b"/", b"\\/") + b"\n\n")
    found = reader.result()
    assert isinstance(found, Failure)
    said = f"{found.message} {found.kind} {found.code}"
    assert not any(piece in said.lower() for piece in PIECES), said
    assert "bad key" in found.message


def test_the_key_of_any_model_of_a_client_is_masked(
    emulator: Emulator, make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "one/Of-openai/0001")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "one/Of-anthropic/0002")
    client = make_client(
        ["gpt-4.1-mini", "claude-haiku-4-5"], model_weights=[1, 0], max_attempts=1, extra_headers={"X-Pwd": "hunter2"}
    )
    body = json.dumps({"error": {"message": "bad: ONE/of-anthropic/0002, one/Of-openai/0001, hunter2."}})
    emulator.script([Fault.raw(status, body.replace("/", r"\/").encode()) for status in (200, 403)])
    for _ in range(2):
        (response,) = client.process_prompts_sync(["p"], show_progress=False)
        assert "bad: ***, ***, ***." in response.error_message


class Telling:
    """A transport whose exceptions repeat what it should send."""

    def __init__(self, kind: type[Exception]) -> None:
        self._kind = kind

    async def send(self, request: Any, *, timeout: float) -> HttpResponse:
        raise self._kind(f"could not send {dict(request.headers)}")

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("kind", [ConnectError, RuntimeError])
def test_exceptions_of_a_transport_are_told_without_the_key(
    make_client: Any, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(api_key=KEY, transport=Telling(kind), max_attempts=1)
    (response,) = client.process_prompts_sync(["p"], show_progress=False)
    assert "could not send" in response.error_message
    assert_hidden(response.error_message)
    if caplog.records:
        assert_hidden(caplog.text)
