"""Which of the stored answers a prompt gets: what ``scope`` means.

Every answer is stored under the conversation and the parameters. With ``scope="conversation"`` any answer will do: one
to the same parameters first, else the newest. With ``scope="request"`` only one to the same parameters. An answer that
is too old or damaged is passed over for the next.
"""

from collections.abc import Sequence
from typing import Any

from lm_deluge.cache.codec import UNKNOWN, Decoded
from lm_deluge.cache.core import Context, Core
from lm_deluge.cache.found import Asked, Found
from lm_deluge.cache.scope import Candidates, candidates, fingerprints, to_the_same_request
from lm_deluge.canonical import entry_key
from lm_deluge.request import Parameters

__all__ = ["IN_FLIGHT_SECONDS", "MISS", "Lookup"]

MISS = Found()

IN_FLIGHT_SECONDS = 5.0  # for which a lookup waits for what is being written; a writer may be held up elsewhere


class Lookup:
    """Looks answers up in a cache, for requests with the same parameters.

    Args:
        core: the cache.
        parameters: what is asked beside the prompts, of each model that may answer.

    Attributes:
        contexts: the forms of the parameters, by model.

    Raises:
        ConfigError: ``scope="request"`` and no parameters.
    """

    def __init__(self, core: Core, parameters: Sequence[Parameters]) -> None:
        self._core = core
        self._by_request = core.scope == "request"
        self.contexts = {one.model: core.context(one) for one in parameters}
        # An answer of any of the client's models will do, in either scope.
        self._asked = list(self.contexts.values()) or [core.context(None)]
        if not core.finds and not self._by_request:
            self._asked = self._asked[:1]  # their keys are the same
        self._own = frozenset(context.fingerprint for context in self.contexts.values())
        self._own_in_old_keys = fingerprints(parameters)

    def flight_key(self, asked: Asked) -> bytes:
        """What identifies an answer among those who look in this way."""
        if self._by_request:
            return self._core.key(asked.prompt, self._asked[0], asked.sample)
        return self._core.conversation(asked.prompt, asked.sample)

    @property
    def rounds(self) -> Sequence[Context]:
        """For a store that keeps one answer under each key: what the keys are made of, one after another."""
        return self._asked

    def keys_of(self, asked: Sequence[Asked], context: Context) -> list[bytes]:
        """For such a store: the keys of some prompts in one of the rounds."""
        return [self._core.key(one.prompt, context, one.sample) for one in asked]

    def find(self, store: Any, asked: Sequence[Asked], oldest: float | None) -> list[Found]:
        """What there is for each prompt. Blocks.

        That takes one call of the store, and a second for the prompts that have no answer to their own parameters.

        In a store that keeps one answer under each key, only what the first of the parameters lead to.
        """
        if not self._core.finds:
            return self.get(store, self.keys_of(asked, self._asked[0]), oldest)
        # Nearly always the answer is one to the same parameters, and by its key it is found soonest.
        found = [MISS] * len(asked)
        if len(self._asked) == 1:
            conversation, digest = self._core.conversation, self._asked[0].digest
            keys = [entry_key(conversation(one.prompt, one.sample), digest) for one in asked]
            found = self._under(store, keys, oldest)
        left = [position for position, item in enumerate(found) if item.response is None]
        if left:
            others = self._candidates(store, [asked[position] for position in left])
            for position, some in zip(left, others, strict=True):
                found[position] = self._best(some, oldest, damage=found[position].damage)
        self._core.touch([item.entry for item in found if item.entry is not None])
        return found

    def keys(self, store: Any, asked: Asked) -> set[bytes]:
        """The keys of the entries that a lookup of a prompt could give; a store gives a few at once. Blocks."""
        if self._core.finds:
            return {key for key, _ in self._candidates(store, [asked])[0]}
        (key,) = keys = self.keys_of([asked], self._asked[0])
        return set() if store.get_many(keys) == [None] else {key}

    def get(self, store: Any, keys: Sequence[bytes], oldest: float | None) -> list[Found]:
        """What there is under each key of any store. Blocks."""
        found = self._under(store, keys, oldest)
        self._core.touch([item.entry for item in found if item.entry is not None])
        return found

    def _under(self, store: Any, keys: Sequence[bytes], oldest: float | None) -> list[Found]:
        self._wait_for_writes([keys])
        decoded, values = self._core.decoded, store.get_many(keys)
        return [self.found(key, decoded(key, value), oldest) for key, value in zip(keys, values, strict=True)]

    def found(self, key: bytes, decoded: Decoded | str | None, oldest: float | None) -> Found:
        """What came of one candidate."""
        if decoded is None:
            return MISS
        if isinstance(decoded, str):
            return Found(damage=decoded)
        if oldest is not None and not decoded.created >= oldest:
            return MISS  # so is one of which the time is not known (0, or not a number in a hostile file)
        return Found(decoded.response, key, decoded.fingerprint not in self._own and decoded.fingerprint != UNKNOWN)

    def _candidates(self, store: Any, asked: Sequence[Asked]) -> list[Candidates]:
        # A million prompts come through here: what most of them need nothing of is left to those few that do.
        key_of, contexts = self._core.conversation, self._asked
        conversations = [key_of(item.prompt, item.sample) for item in asked]
        if len(contexts) == 1:
            digest = contexts[0].digest
            own = [[entry_key(one, digest)] for one in conversations]
        else:
            own = [[entry_key(one, context.digest) for context in contexts] for one in conversations]
        self._wait_for_writes(own if self._by_request else [conversations, *own])
        scope, own_fingerprints = self._core.scope, self._own_in_old_keys
        best = candidates(store, conversations, own, scope=scope, own_fingerprints=own_fingerprints)
        if not self._by_request:
            return best
        return to_the_same_request(best, self._core.backend, {context.digest for context in contexts})

    def _best(self, candidates: Candidates, oldest: float | None, *, damage: str | None = None) -> Found:
        for key, value in candidates:
            outcome = self.found(key, self._core.decoded(key, value), oldest)
            if outcome.response is not None:
                return outcome if damage is None else Found(outcome.response, key, outcome.differs, damage)
            damage = damage or outcome.damage
        return MISS if damage is None else Found(damage=damage)

    def _wait_for_writes(self, wanted: Sequence[Sequence[bytes]]) -> None:
        """What another run has just received and handed to the writer is as good as stored, in a moment."""
        writer = self._core.writer
        if writer.is_idle:
            return
        for keys in wanted:
            for key in keys:
                if (write := writer.in_flight(key)) is not None:
                    writer.wait(write, seconds=IN_FLIGHT_SECONDS)
