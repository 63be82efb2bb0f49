"""What a redaction hook hides is in no byte of the bundle."""

from typing import Any

import msgspec

from lm_deluge.cache.admin.archive import export, rekey
from lm_deluge.cache.codec import encode
from lm_deluge.cache.entry import Entry
from lm_deluge.cache.record import StoredRequest
from lm_deluge.cache.runs import Run
from lm_deluge.prompt import Conversation, Message
from lm_deluge.response import APIResponse

from ..helpers import answer, prompt
from .making import NOW, bundle, contents, entry, filled, loaded

SECRET = "Jane Doe"
TOLD = msgspec.structs.replace(
    answer(f"{SECRET} lives here."),
    raw_body=f'{{"text": "{SECRET} lives here."}}'.encode(),
    logprobs=[{"token": SECRET, "logprob": -0.1}],
)
TOLD_NOTHING = msgspec.structs.replace(answer("Nowhere."), raw_body=b'{"text": "Nowhere."}')


def hide(request: StoredRequest, response: APIResponse) -> tuple[StoredRequest, APIResponse] | None:
    texts = [message.completion or "" for message in request.conversation.messages]
    if any("drop" in text for text in texts):
        return None
    if not any(SECRET in text for text in [*texts, response.completion or ""]):
        return request, response
    messages = [Message.user(text.replace(SECRET, "somebody")) for text in texts]
    content = Message.ai((response.completion or "").replace(SECRET, "somebody"))
    return (
        msgspec.structs.replace(request, conversation=Conversation(messages)),
        msgspec.structs.replace(response, content=content),
    )


def test_what_is_hidden_is_nowhere_in_the_bundle() -> None:
    asked = Conversation.user(f"{'long ' * 600} Where does {SECRET} live?")
    store = filled(
        entry(asked, TOLD, run=7), entry(prompt("nobody"), TOLD_NOTHING), entry(prompt("drop me"), answer("x"))
    )
    store.record_run(Run(id=7, started=NOW, name=SECRET, tags=(SECRET,)))
    lines: list[bytes] = []
    report = export(store, lines.append, redact=hide)
    assert (report.entries, report.redacted, report.dropped) == (2, 1, 1)
    assert "1 redacted" in str(report)
    assert SECRET.encode() not in b"".join(lines)

    other, imported = loaded(lines)
    assert (imported.added, imported.unchecked, imported.is_complete) == (2, 1, True)
    (kept,) = [value for key, value in contents(other).items() if key == entry(asked, TOLD).key]
    assert kept[1].response.completion == "somebody lives here."
    assert kept[2] is not None
    assert kept[2].redacted
    untouched = entry(prompt("nobody"), TOLD_NOTHING).key
    assert contents(other)[untouched] == contents(store)[untouched]


def test_a_request_alone_that_is_hidden_hides_the_body_that_may_repeat_it() -> None:
    def hide_request(request: StoredRequest, response: APIResponse) -> tuple[StoredRequest, APIResponse]:
        return msgspec.structs.replace(request, conversation=Conversation.user("hidden")), response

    store, _ = loaded(bundle(filled(entry(prompt(SECRET), TOLD_NOTHING)), redact=hide_request))
    (kept,) = contents(store).values()
    assert kept[1].response == msgspec.structs.replace(TOLD_NOTHING, raw_body=None)


def test_what_cannot_be_shown_to_the_hook_does_not_pass_it() -> None:
    key = bytes(32)
    lines: list[bytes] = []
    report = export(filled(Entry(key=key, value=encode(key, TOLD))), lines.append, redact=hide)
    assert (report.entries, report.dropped) == (0, 1)
    assert SECRET.encode() not in b"".join(lines)


def test_a_redacted_entry_keeps_its_key_and_its_mark() -> None:
    first, _ = loaded(bundle(filled(entry(prompt(SECRET), TOLD)), redact=hide))
    report = rekey(first)
    assert (report.redacted, report.moved, report.right) == (1, 0, 0)
    second, again = loaded(bundle(first))
    assert contents(second) == contents(first)
    assert again.unchecked == 1


def test_the_hook_sees_the_whole_request() -> None:
    seen: list[Any] = []

    def look(request: StoredRequest, response: APIResponse) -> tuple[StoredRequest, APIResponse]:
        seen.append((request, response))
        return request, response

    made = entry(prompt("a"), answer("a"), scope="request", sample=3)
    bundle(filled(made), redact=look)
    ((_, decoded, request, _, _),) = contents(filled(made)).values()
    assert seen == [(request, decoded.response)]
