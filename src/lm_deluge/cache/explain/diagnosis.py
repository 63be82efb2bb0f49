"""Why a prompt is a miss.

The keys are looked up as a run would, but nothing is changed. On a miss, the keys of other namespaces, scopes and
sample indexes are looked up too; this takes no longer in a large store. Then the newest entries are searched for the
nearest ones, which are compared field by field.
"""

import itertools
import math
import re
from collections.abc import Iterable

import msgspec

from lm_deluge.cache.codec import UNKNOWN, Decoded, try_decode
from lm_deluge.cache.explain.differences import Difference, differences, escaped, parameter_differences, quoted
from lm_deluge.cache.explain.explanation import Explanation, Near, Reason
from lm_deluge.cache.explain.search import Candidate, Searcher
from lm_deluge.cache.record import Scope, StoredRequest, unpack_request
from lm_deluge.cache.scope import candidates, fingerprints, to_the_same_request
from lm_deluge.cache.stores import ConversationStore, ScanStore, Store
from lm_deluge.canonical import conversation_key, conversation_of, entry_key, parameters_of
from lm_deluge.errors import ConfigError, DamagedEntryError, PromptError
from lm_deluge.prompt import Conversation
from lm_deluge.request import Parameters
from lm_deluge.text import age, moment

__all__ = ["Explanation", "Near", "Searcher", "Wanted", "explain"]

_MOST_DIFFERENCES = 12  # kept of one entry
_MOST_NAMESPACES = 20  # that are tried in place of the right one
_MOST_NAMED = 3
_SENTENCE_WIDTH = 200  # of what is quoted in a sentence
_MOST_COMPARED = 10  # of the most similar entries, besides those of the same conversation
_LEAST_SIMILARITY = 0.2  # below it, two prompts are unrelated


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked up.

    Attributes:
        conversation: the prompt, loaded.
        parameters: what is asked beside it, of each model that may answer; empty if that is not known.
        namespace: the ``cache_key``.
        scope: how one looks.
        sample: which of several independent answers is meant.
        max_age: seconds; older entries do not count. None for no limit.
        ttl: the cache's own limit, in the same way.

    Raises:
        ConfigError: ``scope="request"`` without parameters.
    """

    conversation: Conversation
    parameters: tuple[Parameters, ...] = ()
    namespace: str = "default"
    scope: Scope = "conversation"
    sample: int = 0
    max_age: float | None = None
    ttl: float | None = None

    def __post_init__(self) -> None:
        if self.scope == "request" and not self.parameters:
            raise ConfigError('With scope="request" it matters what is asked beside the prompt; pass parameters=.')

    @property
    def conversation_key(self) -> bytes:
        """What the keys of all answers to the conversation begin with."""
        return conversation_key(self.namespace, self.conversation.digest, self.sample)

    @property
    def own(self) -> list[bytes]:
        """The keys of answers to the same parameters, in order."""
        return [entry_key(self.conversation_key, each.digest) for each in self.parameters]

    @property
    def single_keys(self) -> list[bytes]:
        """What is looked up in a store that keeps one answer under each key, in order."""
        return list(self._single(self.namespace, self.scope, self.sample))

    def conversations(self, namespaces: Iterable[str]) -> list[bytes]:
        """The keys of the same conversation in some namespaces, and with neighboring sample indexes."""
        variants = itertools.product(namespaces, self._samples)
        return [conversation_key(name, self.conversation.digest, sample) for name, sample in variants]

    def relatives(self, namespaces: Iterable[str]) -> dict[bytes, tuple[str, StoredRequest]]:
        """Namespace and request, by key of 32 bytes, of what would be the same prompt in one of the namespaces, under
        either scope, or with a neighboring sample index."""
        scopes: tuple[Scope, ...] = ("conversation", "request")
        variants = itertools.product(namespaces, scopes, self._samples)
        return {key: (variant[0], request) for variant in variants for key, request in self._single(*variant).items()}

    @property
    def _samples(self) -> list[int]:
        return sorted({self.sample, 0, max(self.sample - 1, 0), self.sample + 1})

    def _single(self, namespace: str, scope: Scope, sample: int) -> dict[bytes, StoredRequest]:
        found: dict[bytes, StoredRequest] = {}
        for parameters in self.parameters or (None,):
            if scope == "request" and parameters is None:
                continue
            request = StoredRequest(conversation=self.conversation, parameters=parameters, scope=scope, sample=sample)
            found.setdefault(request.key(namespace, finds=False), request)
        return found


def explain(
    store: Store, wanted: Wanted, *, now: float, most: int = 3, search: int = 20_000, searcher: Searcher | None = None
) -> Explanation:
    """Whether a request is a hit, and if not, why not. Changes nothing. Blocks.

    Args:
        store: where to look.
        wanted: what to look for.
        now: seconds since the Unix epoch.
        most: how many near entries to give.
        search: how many entries to search, the newest first.
        searcher: one of the same store, which reads it once for many requests; ``search`` is then its own.

    Raises:
        CacheError: the store cannot be read.
        PromptError: the prompt has no canonical form, or an image or a file of it cannot be read.
    """
    searcher = Searcher(store, wanted.namespace, search) if searcher is None else searcher
    return _Explaining(store, wanted, now, searcher).explanation(most)


class _Explaining:
    """The explanation of one request, in progress."""

    def __init__(self, store: Store, wanted: Wanted, now: float, searcher: Searcher) -> None:
        self._store = store
        self._wanted = wanted
        self._now = now
        self._searcher = searcher
        self._finder = store if isinstance(store, ConversationStore) else None
        if self._finder is None:
            self._keys = wanted.single_keys
        else:
            self._keys = wanted.own if wanted.scope == "request" else [wanted.conversation_key]

    def explanation(self, most: int) -> Explanation:
        old: Near | None = None
        damage: str | None = None
        for key, value in self._candidates():
            found = try_decode(key, value)
            if isinstance(found, str):
                damage = damage or found
            elif found is not None and not self._is_old(found):
                return self._because("hit", "The answer is in the cache.", entry=self._entry(key, found))
            elif found is not None:
                old = old or self._entry(key, found)
        if old is not None:
            return self._because("old", self._age_of(old), entry=old)
        if damage is not None:
            return self._because("damaged", f"The entry is damaged: {escaped(damage, _SENTENCE_WIDTH)}.")
        self._searcher.prepare()
        for key, quarantined in reversed(self._searcher.quarantined.items()):
            if key in self._keys or conversation_of(key) in self._keys:
                said = escaped(quarantined.reason, _SENTENCE_WIDTH).rstrip(".")
                date = moment(quarantined.when)
                return self._because("quarantined", f"The entry was quarantined on {date}: {said}.")
        nearest = _grouped(self._nearest())[:most]
        if nearest and nearest[0].similarity == 1:
            nearest = [near for near in nearest if near.similarity == 1]
        return self._because(*self._reason(nearest[0] if nearest else None), nearest=tuple(nearest))

    def _candidates(self) -> Iterable[tuple[bytes, object]]:
        """Keys and values of what may be served, in the order in which a run takes them."""
        wanted, finder = self._wanted, self._finder
        if finder is None:
            return zip(self._keys, self._store.get_many(self._keys), strict=True)
        own_fingerprints = fingerprints(wanted.parameters)
        best = candidates(
            finder, [wanted.conversation_key], [wanted.own], scope=wanted.scope, own_fingerprints=own_fingerprints
        )
        if wanted.scope == "conversation":
            return best[0]
        return to_the_same_request(best, self._store, {one.digest for one in wanted.parameters})[0]

    def _because(
        self, reason: Reason, because: str, *, entry: Near | None = None, nearest: tuple[Near, ...] = ()
    ) -> Explanation:
        wanted, namespaces = self._wanted, self._searcher.namespaces
        searched = 0 if entry is not None else namespaces.total()
        return Explanation(
            hit=reason == "hit",
            reason=reason,
            because=because,
            keys=tuple(key.hex() for key in self._keys),
            namespace=wanted.namespace,
            scope=wanted.scope,
            sample=wanted.sample,
            location=self._store.location,
            entry=entry,
            nearest=nearest,
            searched=searched,
            elsewhere=searched and searched - namespaces[wanted.namespace],
            damaged=searched and len(self._searcher.damaged),
        )

    # The entry itself

    def _is_old(self, found: Decoded) -> bool:
        limit = self._limit()
        # An entry of which the time is not known (0, or not a number in a hostile file) is older than any limit.
        return limit is not None and not found.created >= self._now - limit[0]

    def _limit(self) -> tuple[float, str] | None:
        limits = {"max_age": self._wanted.max_age, "ttl": self._wanted.ttl}
        return min(((seconds, name) for name, seconds in limits.items() if seconds is not None), default=None)

    def _age_of(self, old: Near) -> str:
        seconds, name = self._limit() or (0.0, "max_age")
        stored = f"is {age(self._now - old.created)} old" if old.created else "was stored at an unknown time"
        return f"The entry {stored}, and {name} is {age(seconds)}."

    def _entry(self, key: bytes, found: Decoded) -> Near:
        """The entry under one of the keys, with differences that are not part of its key."""
        return _near(key, self._wanted.namespace, found, self._beside_key(key, found))

    def _beside_key(self, key: bytes, found: Decoded) -> tuple[Difference, ...]:
        asked, stored = self._wanted.parameters, self._parameters_of(key)
        if stored is not None and asked:
            try:
                return min((parameter_differences(each, stored) for each in asked), key=len)
            except (PromptError, RecursionError):
                return ()  # not stored by this package; the answer is served all the same
        if asked and found.fingerprint not in (UNKNOWN, *(each.fingerprint for each in asked)):
            return (Difference("parameters", "others", "others, which this store does not keep"),)
        return ()

    def _parameters_of(self, key: bytes) -> Parameters | None:
        """What was asked beside the conversation of an entry, where the store keeps it."""
        if not isinstance(self._store, ScanStore):
            return None
        (stored,) = self._store.read([key])
        if stored is None or not stored.request:
            return None
        try:
            return unpack_request(stored.request, self._store.read_blobs).parameters
        except DamagedEntryError:
            return None  # only the request is damaged: the answer is served all the same

    # What is near

    def _nearest(self) -> list[Near]:
        asked = self._wanted.conversation
        others = [name for name, _ in self._searcher.namespaces.most_common(_MOST_NAMESPACES)]
        namespaces = dict.fromkeys([self._wanted.namespace, *others])
        relatives = self._wanted.relatives(namespaces)
        for key in self._wanted.single_keys if self._finder is None else ():
            relatives.pop(key, None)
        if self._searcher.searchable:
            keys = [*relatives]
            if self._finder is not None:
                conversations = self._wanted.conversations(namespaces)
                found = self._finder.find_many(conversations, [()] * len(conversations))
                keys += [key for entries in found for key, _ in entries]
            candidates = {each.stored.key: each for each in self._searcher.candidates(asked, list(dict.fromkeys(keys)))}
            candidates.update({each.stored.key: each for each in self._searcher.nearest(asked)})
            alike = [each for each in candidates.values() if each.similarity >= _LEAST_SIMILARITY]
            alike.sort(key=lambda each: (each.similarity, each.stored.facts.created), reverse=True)
            same = sum(each.similarity == 1 for each in alike)
            compared = [self._compared(each) for each in alike[: max(same, _MOST_COMPARED)]]
        else:
            values = zip(relatives.items(), self._store.get_many(list(relatives)), strict=True)
            compared = [self._relative(key, *relative, value) for (key, relative), value in values if value is not None]
        return sorted((each for each in compared if each is not None), key=self._rank)

    def _rank(self, near: Near) -> tuple[float, int, bool, float]:
        created = near.created if near.created > 0 else 0.0
        elsewhere = near.namespace != self._wanted.namespace
        return -near.similarity, len(near.differences) + near.more, elsewhere, -created

    def _compared(self, candidate: Candidate) -> Near | None:
        stored = candidate.stored
        decoded = try_decode(stored.key, stored.value)
        if not isinstance(decoded, Decoded):
            self._searcher.damaged.add(stored.key)
            return None
        if not decoded.created:
            decoded = msgspec.structs.replace(decoded, created=stored.facts.created)
        try:
            different = self._differences(stored.key, stored.namespace, candidate.request)
        except (PromptError, RecursionError):
            self._searcher.damaged.add(stored.key)
            return None
        near = _near(stored.key, stored.namespace, decoded, different)
        return msgspec.structs.replace(near, similarity=candidate.similarity, redacted=candidate.request.redacted)

    def _relative(self, key: bytes, namespace: str, request: StoredRequest, value: object) -> Near | None:
        decoded = try_decode(key, value)
        if not isinstance(decoded, Decoded):
            return None
        return _near(key, namespace, decoded, self._differences(key, namespace, request))

    def _differences(self, key: bytes, namespace: str, stored: StoredRequest) -> tuple[Difference, ...]:
        """Differences in what is looked for, from the parameters that come nearest."""
        wanted = self._wanted
        is_old = self._finder is not None and stored.scope == "request" and conversation_of(key) == key
        scope = wanted.scope if self._finder is None else stored.scope
        asked = [
            StoredRequest(conversation=wanted.conversation, parameters=each, scope=scope, sample=wanted.sample)
            for each in (wanted.parameters if wanted.scope == "request" else (None,))
        ]
        found = min((differences(each, stored) for each in asked), key=len)
        is_sealed = stored.parameters is not None and not stored.parameters.is_whole
        others = parameters_of(key) not in [parameters_of(own) for own in wanted.own]
        if not found and wanted.scope == "request" and is_sealed and others:
            found = (Difference("extra_headers", "values that are not kept", "others"),)
        if is_old:
            found += (Difference("scope", wanted.scope, "request, in a key of an older version"),)
        if namespace != wanted.namespace:
            found += (Difference("cache_key", quoted(wanted.namespace), quoted(namespace)),)
        return found

    def _reason(self, near: Near | None) -> tuple[Reason, str]:
        wanted, searcher = self._wanted, self._searcher
        roots = (
            {re.split(r"[.\[]", difference.path, maxsplit=1)[0] for difference in near.differences} if near else set()
        )
        if near is not None and not near.redacted and "messages" not in roots:
            return self._same_conversation(near, roots)
        if not searcher.searchable:
            return "unsearchable", "The store has no such entry, and cannot be searched for one that is near."
        if not searcher.namespaces[wanted.namespace]:
            others = [quoted(name) for name, _ in searcher.namespaces.most_common(_MOST_NAMED)]
            elsewhere = f"; there are entries under {', '.join(others)}" if others else ""
            return "empty", f"Nothing is stored under cache_key {quoted(wanted.namespace)}{elsewhere}."
        if near is None:
            return "unlike", "No stored request resembles this one."
        return "conversation", "No stored request has this conversation."

    def _same_conversation(self, near: Near, roots: set[str]) -> tuple[Reason, str]:
        wanted = self._wanted
        by_path = {difference.path: difference for difference in near.differences}
        if not roots:
            return "key", "The same request is stored under a key of another scheme. `deluge cache rekey` helps."
        if "scope" in roots and self._finder is not None:
            if not (wanted.scope == "request" and roots - {"scope", "sample", "cache_key"}):
                return "scope", "The same request is stored under a key of an older version. Run deluge cache rekey."
        elif "scope" in roots:
            return "scope", f"The same conversation is stored under another scope: {by_path['scope'].sides}."
        if roots == {"sample"}:
            return "sample", f"This sample is not stored, but another one of it is: {by_path['sample'].sides}."
        if roots == {"cache_key"}:
            return "namespace", f"The same request is stored under another cache_key: {by_path['cache_key'].sides}."
        if wanted.scope == "request" and roots - {"sample", "cache_key"}:
            return "parameters", "The same conversation is stored, but was asked with other parameters."
        return "namespace", "The same conversation is stored under another cache_key, with another sample index."


def _grouped(found: list[Near]) -> list[Near]:
    """Samples of one prompt as one entry: the nearest of them."""
    groups: dict[tuple[object, ...], Near] = {}
    for near in found:
        others = [difference for difference in near.differences if difference.path != "sample"]
        group = (near.namespace, near.similarity, near.more, *map(str, others))
        first = groups.get(group)
        groups[group] = near if first is None else msgspec.structs.replace(first, samples=first.samples + 1)
    return list(groups.values())


def _near(key: bytes, namespace: str, found: Decoded, different: tuple[Difference, ...]) -> Near:
    return Near(
        key=key.hex(),
        namespace=namespace,
        model=found.response.model,
        created=found.created if math.isfinite(found.created) else 0.0,
        cost=found.response.cost,
        differences=different[:_MOST_DIFFERENCES],
        more=max(len(different) - _MOST_DIFFERENCES, 0),
    )
