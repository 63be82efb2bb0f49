"""Anthropic's cache diagnostics: where a request departs from the one before it.

A request with the ``diagnostics`` object leaves a fingerprint under the id of its answer. The next request names that
id and learns the first level at which its prompt is another. What was asked is compared, not what was cached.

Levels come in the order in which the model reads them: tools, system, messages. Settings that change the prompt count
between system and messages, where the guide has them. The tokens that a departure costs are those of the earlier
request from there on.

Simplified: a comparison is never pending, no conversation is too long for it, and a fingerprint goes when there are
too many later ones, not after a time.
"""

import hashlib
import itertools
from typing import Any

import msgspec

from lm_deluge.testing.anthropic_messages import shapes
from lm_deluge.testing.anthropic_messages.prompt import Level, Position

__all__ = ["Fingerprint", "Fingerprints", "fingerprint"]

_KEPT = 4_096
_FIRST: tuple[Level, ...] = ("tools", "system")


class Fingerprint(msgspec.Struct, frozen=True):
    """A prompt as digests and token counts.

    Attributes:
        model: the model and its speed.
        levels: the digest and the tokens of each block, by level.
        settings: a digest of the other settings that change the prompt.
    """

    model: tuple[str, str]
    levels: dict[Level, list[tuple[bytes, int]]]
    settings: bytes


def fingerprint(request: shapes.MessagesRequest, sequence: list[Position], *, betas: frozenset[str]) -> Fingerprint:
    """The fingerprint of a request. ``betas`` are the names in its ``anthropic-beta`` header."""
    levels: dict[Level, list[tuple[bytes, int]]] = {"tools": [], "system": [], "messages": []}
    for position in sequence:
        levels[position.level].append((position.digest, position.tokens))
    output = request.output_config or shapes.OutputConfig()
    settings = msgspec.json.encode([request.tool_choice, request.thinking, output, sorted(betas)])
    return Fingerprint(
        (request.model, request.speed or "standard"), levels, hashlib.blake2b(settings, digest_size=16).digest()
    )


class Fingerprints:
    """The fingerprints of all workspaces; a workspace is told by its credential."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Fingerprint] = {}

    def clear(self) -> None:
        self._kept.clear()

    def keep(self, found: Fingerprint, *, credential: str, message_id: str) -> None:
        """Remember a request under the id of its answer, in place of the oldest one where there are too many."""
        self._kept[credential, message_id] = found
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def diagnose(self, found: Fingerprint, *, credential: str, previous: str | None) -> dict[str, Any] | None:
        """The ``diagnostics`` of an answer; None when nothing was compared or nothing differs."""
        if previous is None:
            return None
        before = self._kept.get((credential, previous))
        reason = {"type": "previous_message_not_found"} if before is None else _departure(before, found)
        return None if reason is None else {"cache_miss_reason": reason}


def _departure(before: Fingerprint, now: Fingerprint) -> dict[str, Any] | None:
    left = sum(tokens for blocks in before.levels.values() for _, tokens in blocks)
    if before.model != now.model:
        return _changed("model", left)
    for level in _FIRST:
        if before.levels[level] != now.levels[level]:
            return _changed(level, left - _in_common(before, now, level))
        left -= _in_common(before, now, level)
    if before.settings != now.settings:
        return {"type": "unavailable"}
    earlier = before.levels["messages"]
    if now.levels["messages"][: len(earlier)] != earlier:
        return _changed("messages", left - _in_common(before, now, "messages"))
    return None


def _in_common(before: Fingerprint, now: Fingerprint, level: Level) -> int:
    """The tokens of a level's blocks up to the first that differs."""
    pairs = zip(before.levels[level], now.levels[level], strict=False)
    return sum(each[1] for each, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _changed(level: str, missed: int) -> dict[str, Any]:
    return {"type": f"{level}_changed", "cache_missed_input_tokens": missed}
