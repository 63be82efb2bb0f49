"""Which answers are worth keeping. A stored answer is replayed for ever, so a bad one must not get in."""

from lm_deluge.prompt import Text, Thinking
from lm_deluge.response import APIResponse

__all__ = ["is_admissible"]

_NOT_KEPT = frozenset({"refusal", "content_filter"})


def is_admissible(response: APIResponse) -> bool:
    """Whether to store a response: not errors, refusals, filtered answers, or answers with nothing in them."""
    if response.is_error or response.content is None or response.finish_reason in _NOT_KEPT:
        return False
    return any(
        part.text.strip() if isinstance(part, Text) else not isinstance(part, Thinking)
        for part in response.content.parts
    )
