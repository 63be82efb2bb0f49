"""Prompts on their way in: read, checked and hashed, each failure at its own position."""

from collections.abc import Sequence

from lm_deluge._threads import in_thread
from lm_deluge.errors import LMDelugeError
from lm_deluge.prompt import Conversation, PromptLike, as_conversation

__all__ = ["Prepared", "prepare"]

_INLINE_BYTES = 256 * 1024  # hashed in a fraction of a millisecond

Prepared = Conversation | str
"""A prompt whose media are in memory and whose digest is known, or what is wrong with it."""


async def prepare(prompts: Sequence[PromptLike]) -> list[Prepared]:
    """Make prompts ready for lookup. Files are read, and much text is hashed, in a thread."""
    prepared: list[Prepared] = []
    late: list[int] = []
    size = 0
    for prompt in prompts:
        try:
            conversation = as_conversation(prompt)
        except LMDelugeError as error:
            prepared.append(str(error))
            continue
        if type(prompt) is str:
            size, loaded = size + len(prompt), True
        else:
            size += 4 * sum([message.token_estimate for message in conversation.messages])
            loaded = conversation.is_loaded
        if size > _INLINE_BYTES or not loaded:
            late.append(len(prepared))
            prepared.append(conversation)
        else:
            prepared.append(_ready(conversation))
    if late:
        ready = await in_thread(lambda: [_ready(prepared[position]) for position in late])
        for position, outcome in zip(late, ready, strict=True):
            prepared[position] = outcome
    return prepared


def _ready(prompt: Prepared) -> Prepared:
    if isinstance(prompt, str):
        return prompt
    try:
        loaded = prompt.load()
        loaded.digest  # noqa: B018 - computed here and kept, where it does not hold up anything
    except LMDelugeError as error:
        return str(error)
    return loaded
