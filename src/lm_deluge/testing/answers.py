"""What the emulated model says: real text, and the same for the same request."""

from collections.abc import Callable

import msgspec

from lm_deluge.testing.dataset import find_answer, pick_answer
from lm_deluge.testing.schemas import example
from lm_deluge.testing.tokens import count_tokens, cut
from lm_deluge.testing.values import Answer, AnswerToolCall, Finish, ParsedRequest

__all__ = ["Finished", "default_answer", "finished"]

_THINKING = "The question gives all the numbers. I work through it one step at a time and check the result."
_OPENINGS = ("", "Let me work through it.\n", "Step by step:\n", "Here is one way to see it.\n")


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """An answer after the request's limits: what is really sent.

    Attributes:
        answer: the answer, its text cut at a stop sequence or at the token limit.
        finish: why it ended.
        stop_sequence: the stop sequence that ended it, if one did.
        thinking_tokens, text_tokens: what was generated; tool calls count as text.
    """

    answer: Answer
    finish: Finish
    stop_sequence: str | None = None
    thinking_tokens: int = 0
    text_tokens: int = 0

    @property
    def output_tokens(self) -> int:
        return self.thinking_tokens + self.text_tokens


def default_answer(request: ParsedRequest, digest: Callable[[], bytes], *, choice: int = 0) -> Answer:
    """The answer when no responder is given.

    A forced tool gives a call whose arguments fit its schema; a schema gives JSON that fits it; a known GSM8K question
    gives its answer; everything else an answer chosen by the digest of the conversation. ``choice`` varies the wording.
    """
    if request.forced_tool is not None:
        return Answer(tool_calls=(_forced_call(request),))
    if request.schema is not None:
        return Answer(text=msgspec.json.encode(example(request.schema)).decode())
    text = find_answer(request.text)
    if text is None:
        text = pick_answer(int.from_bytes(digest()[:8], "big") + choice)
    return Answer(text=_OPENINGS[choice % len(_OPENINGS)] + text)


def finished(answer: Answer, request: ParsedRequest, *, thinks: bool) -> Finished:
    """Apply the request's stop sequences and token limit to an answer.

    Args:
        answer: what the model would say.
        request: the limits.
        thinks: whether the request turned thinking on. The default thought takes at most a quarter of the limit, so
            that small limits still leave room for text.
    """
    limit = request.max_tokens
    thinking = answer.thinking
    if not thinks:
        thinking = ""
    elif thinking is None:
        thinking = _THINKING if limit is None else cut(_THINKING, limit // 4)
    thinking_tokens = count_tokens(thinking)
    room = None if limit is None else max(0, limit - thinking_tokens)

    text, stop_sequence = _stopped(answer.text, request.stop)
    finish: Finish = "stop"
    if room is not None and count_tokens(text) > room:
        text, stop_sequence, finish = cut(text, room), None, "length"
    elif stop_sequence is None:
        if answer.tool_calls:
            finish = "tool_calls"
        elif answer.refusal is not None:
            finish = "refusal"
    calls = answer.tool_calls if finish == "tool_calls" or answer.finish == "tool_calls" else ()
    text_tokens = count_tokens(text) + sum(
        count_tokens(call.name) + count_tokens(msgspec.json.encode(call.arguments).decode()) for call in calls
    )
    if answer.refusal:
        text_tokens += count_tokens(answer.refusal)
    return Finished(
        answer=msgspec.structs.replace(answer, text=text, thinking=thinking, tool_calls=calls),
        finish=answer.finish or finish,
        stop_sequence=stop_sequence,
        thinking_tokens=thinking_tokens,
        text_tokens=text_tokens,
    )


def _stopped(text: str, sequences: tuple[str, ...]) -> tuple[str, str | None]:
    """The text before the stop sequence that comes first in it."""
    found = [(position, sequence) for sequence in sequences if (position := text.find(sequence)) >= 0]
    if not found:
        return text, None
    position, sequence = min(found)
    return text[:position], sequence


def _forced_call(request: ParsedRequest) -> AnswerToolCall:
    name = request.tools[0] if request.forced_tool == "*" else str(request.forced_tool)
    arguments = example(_tool_schema(request, name))
    return AnswerToolCall(name=name, arguments=arguments if isinstance(arguments, dict) else {})


def _tool_schema(request: ParsedRequest, name: str) -> dict[str, object]:
    """The parameters of a tool, wherever the wire format keeps them."""
    for tool in request.json.get("tools") or ():
        inner = tool.get("function") or tool
        if inner.get("name") == name:
            schema = inner.get("input_schema") or inner.get("parameters")
            return schema if isinstance(schema, dict) else {}
    return {}
