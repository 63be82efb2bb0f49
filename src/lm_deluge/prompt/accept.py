"""What may be given as a prompt, and as a batch of prompts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from lm_deluge.errors import PromptError
from lm_deluge.prompt.conversation import Conversation
from lm_deluge.prompt.message import Message
from lm_deluge.prompt.parts import Text

__all__ = ["PromptLike", "as_conversation", "as_prompts"]

PromptLike = str | Message | Conversation | Sequence[Message] | Sequence[Mapping[str, Any]]


def as_conversation(prompt: PromptLike) -> Conversation:
    """The conversation that a prompt stands for.

    A string is a user's message; a list is of messages or of OpenAI-style message objects.

    Raises:
        PromptError: another type, an empty list, or a list that cannot be read.
    """
    if isinstance(prompt, Conversation):
        return prompt
    if isinstance(prompt, str):
        return Conversation((Message("user", (Text(prompt),)),))
    if isinstance(prompt, Message):
        return Conversation((prompt,))
    given: object = prompt
    if isinstance(given, Sequence) and given:
        if all(isinstance(item, Message) for item in given):
            return Conversation(given)
        if isinstance(given[0], Mapping):
            return Conversation.from_openai_chat(given)
    raise PromptError(
        f"A prompt is a string, a Message, a Conversation or a list of messages, not {_described(prompt)}."
    )


def as_prompts(prompts: PromptLike | Iterable[PromptLike]) -> Iterable[PromptLike]:
    """A batch from what was given: one bare prompt is a batch of one.

    Raises:
        TypeError: something that holds no prompts: a dict, bytes, a number...
    """
    if isinstance(prompts, (str, Message, Conversation)):
        return (prompts,)
    if isinstance(prompts, (list, tuple)) and prompts and all(_is_message_object(item) for item in prompts):
        # Message objects are no prompts by themselves, so a list of them is one conversation.
        return (cast("Sequence[Mapping[str, Any]]", prompts),)
    if isinstance(prompts, (Mapping, bytes, bytearray)) or not isinstance(prompts, Iterable):
        raise TypeError(f"prompts is {_described(prompts)}; a list of prompts is needed.")
    return cast("Iterable[PromptLike]", prompts)


def _is_message_object(item: object) -> bool:
    return isinstance(item, Mapping) and "role" in item


def _described(value: object) -> str:
    if not isinstance(value, (list, tuple)):
        return f"a {type(value).__name__}"
    if not value:
        return f"an empty {type(value).__name__}"
    return f"a {type(value).__name__} of {', '.join(sorted({type(item).__name__ for item in value}))}"
