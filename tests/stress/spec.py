"""What is done in one round, as values that processes hand to each other."""

import msgspec

from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse

from .server import answer_to

__all__ = ["PREFIX", "SECONDS", "Outcome", "Round", "wrong_with"]

SECONDS = 60.0
"""How long a round may take."""

PREFIX = Conversation.system("You know the answers to all prompts that have a name. " * 120)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What is done in one round.

    Attributes:
        name: begins the names of its prompts.
        way: how the run is left.
        runner: what runs the event loop, see ``Leaver.run``.
        api: ``iter``, ``async`` or ``sync``.
        again: ``same``: in this process at once; ``other``: by another process while this one lives; ``ended``: by
            another process after this one has ended.
        dies: whether what the way raises may end the process.
        threads: how many threads have the same run; the first of them is left.
        at: answers that have arrived when it happens.
        after: seconds after that.
        signals: how many are sent, in ways that send some.
        gap: seconds between them, at most.
    """

    name: str
    path: str
    marks: str
    port: int
    seed: int
    way: str
    runner: str
    api: str
    again: str
    dies: bool = False
    single_flight: bool = False
    warm: bool = False
    threads: int = 1
    fresh: bool = True
    prompts: int = 60
    each: int = 1
    concurrency: int = 225
    at: int = 10
    after: float = 0.0
    signals: int = 1
    gap: float = 0.3

    @property
    def names(self) -> list[str]:
        """The names of its prompts."""
        return [f"{self.name}:{number}" for number in range(self.prompts)]


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a round, as the process that left it saw it."""

    name: str
    ended: str = ""
    seconds: float = 0.0
    again_seconds: float = 0.0
    wrong: str = ""


def wrong_with(responses: list[APIResponse], names: list[str]) -> str:
    """What is wrong with the responses to prompts; nothing, it is hoped."""
    if [response.id for response in responses] != list(range(len(names))):
        return f"{len(responses)} responses for {len(names)} prompts"
    errors = [response.error_message for response in responses if response.is_error]
    if errors:
        return f"{len(errors)} errors: {errors[0]}"
    false = sum(response.completion != answer_to(name) for response, name in zip(responses, names, strict=True))
    return f"{false} false answers" if false else ""
