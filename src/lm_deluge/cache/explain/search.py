"""Which stored requests resemble one that missed.

An index over the newest entries is made once and serves many misses. It knows each message by its hash and each chain
of messages by its name, so it neither loads nor compares what many requests share. Of the last user message and the
system message it keeps a fixed number of pairs of neighboring words; a changed word leaves most of them as they are.
The candidates that it finds are then read and compared in full.
"""

import heapq
import itertools
import re
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from math import log, log2

import msgspec

from lm_deluge._locks import renewed
from lm_deluge.cache.codec import decompress
from lm_deluge.cache.entry import Quarantined, ReadBlobs, Stored, blob_of, blobs_in
from lm_deluge.cache.explain.alignment import aligned, canonical, shared_prefix
from lm_deluge.cache.record import (
    UNREADABLE,
    StoredRequest,
    message_decoder,
    node_decoder,
    pack_request,
    stored_decoder,
    unpack_request,
)
from lm_deluge.cache.stores import ScanStore, Store
from lm_deluge.errors import DamagedEntryError, PromptError
from lm_deluge.prompt import Conversation, Message, Text

__all__ = ["Candidate", "Searcher", "similarity"]

_POOL = 50  # candidates that are compared in full
_PAIRS = 16  # word pairs kept of a text
_WORK = 20_000  # steps through the index for one search
_ENDS = 2_000  # characters at each end of a text whose word pairs are looked at
_SAMPLED = 4_000  # characters at each end of a text whose words are compared in full
_LONG_WORD = 24  # longer ones are cut into pieces, since not every script has spaces
_PIECE = 4
_MOST_NODES = 64  # of a chain, the last ones

_WORD = re.compile(r"\w+")


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A stored entry that resembles what was asked.

    Attributes:
        stored: the entry.
        request: its request.
        similarity: of the conversations, from 0 to 1.
    """

    stored: Stored
    request: StoredRequest
    similarity: float


class Searcher:
    """Finds the entries nearest to a conversation, among the newest ones of a store.

    The store is read at the first search and not again; later entries are not seen. Threads may share it.

    Args:
        store: what to search. One that cannot be scanned is searched without result; see ``searchable``.
        namespace: the ``cache_key`` whose entries come first.
        search: how many entries to look at: the newest of the namespace, then the newest of others.
    """

    def __init__(self, store: Store, namespace: str = "default", search: int = 20_000) -> None:
        self._store = store if isinstance(store, ScanStore) else None
        self._namespace = namespace
        self._search = search
        self._reading = renewed(threading.Lock())
        self._read = False
        self._keys: list[bytes] = []
        self._index = _Index()
        self.namespaces: Counter[str] = Counter()
        """How many entries of each namespace were looked at; filled by ``prepare``."""
        self.quarantined: dict[bytes, Quarantined] = {}
        """Entries out of service by key, without their bytes; filled by ``prepare``."""
        self.damaged: set[bytes] = set()
        """Keys of entries that were skipped because they do not unpack."""

    @property
    def searchable(self) -> bool:
        """Whether the store can say what it holds."""
        return self._store is not None

    def prepare(self) -> None:
        """Read the store, unless that was done. Blocks.

        Raises:
            CacheError: the store cannot be read.
        """
        with self._reading:
            if self._store is None or self._read:
                return
            for stored in self._newest(self._store):
                self.namespaces[stored.namespace] += 1
                if not stored.request:
                    continue
                try:
                    self._index.add(stored.request, self._store.read_blobs)
                except DamagedEntryError:
                    self.damaged.add(stored.key)
                else:
                    self._keys.append(stored.key)
            for quarantined in self._store.quarantined():
                self.quarantined[quarantined.key] = msgspec.structs.replace(quarantined, value=b"", request=b"")
            self._read = True

    def nearest(self, conversation: Conversation) -> list[Candidate]:
        """The entries that resemble a loaded conversation, in no order. Blocks.

        Raises:
            CacheError: the store cannot be read.
        """
        self.prepare()
        if self._store is None:
            return []
        pool = self._index.closest(conversation, _POOL)
        # Very short prompts may share no words with the right entry, so the newest entries are compared too.
        numbers = dict.fromkeys([*pool, *range(min(_POOL, len(self._keys)))])
        keys = [self._keys[number] for number in itertools.islice(numbers, _POOL)]
        return list(self.candidates(conversation, keys))

    def candidates(self, conversation: Conversation, keys: Sequence[bytes]) -> Iterator[Candidate]:
        """Entries by key, compared with a conversation. Those that are gone or damaged are left out."""
        if self._store is None:
            return
        read_blobs = _remembering(self._store.read_blobs)
        for stored in self._store.read(keys):
            if stored is None or not stored.request:
                continue
            try:
                request = unpack_request(stored.request, read_blobs)
                yield Candidate(stored, request, similarity(conversation, request.conversation))
            except (DamagedEntryError, PromptError, RecursionError):
                self.damaged.add(stored.key)

    def _newest(self, store: ScanStore) -> Iterator[Stored]:
        own = 0
        for stored in itertools.islice(store.scan(namespace=self._namespace, newest_first=True), self._search):
            own += 1
            yield stored
        if own < self._search:
            others = (each for each in store.scan(newest_first=True) if each.namespace != self._namespace)
            yield from itertools.islice(others, self._search - own)


def similarity(asked: Conversation, stored: Conversation) -> float:
    """How much two conversations have in common: 1 if they are equal, 0 if they share nothing.

    A long message counts for more than a short one, but not in proportion: of a question about 80 kB of text, the
    question matters too.
    """
    total = common = 0.0
    for i, j, is_same in aligned(asked.messages, stored.messages, lambda message: message.role):
        left = None if i is None else asked.messages[i]
        right = None if j is None else stored.messages[j]
        prose = [_prose(message) for message in (left, right) if message is not None]
        weight = log2(16 + max(map(len, prose)))
        total += weight
        if is_same:
            common += weight
        elif left is not None and right is not None:
            likeness = _likeness(*prose)
            common += weight * (likeness if left.role == right.role else likeness / 2)
    return common / total if total else 1.0


class _Chain(msgspec.Struct, frozen=True, gc=False):
    """A node of messages, known from an earlier request.

    Attributes:
        name: of the node.
        before: the node that it goes on from.
        first: the first message of the whole chain, or its name.
        user: the last user message so far, or its name.
    """

    name: bytes
    before: "_Chain | None"
    first: Message | bytes | None
    user: Message | bytes | None


class _Index:
    """Packed requests by number, in the order they were added."""

    def __init__(self) -> None:
        self._count = 0
        self._pieces: dict[Hashable, int] = {}  # messages and nodes, by name
        self._holders: list[list[int]] = []  # for each piece, the requests that have it
        self._compared: set[int] = set()  # pieces whose word pairs are known
        self._pairs: dict[int, list[int]] = {}  # for each word pair, the pieces that have it
        self._chains: dict[bytes, _Chain] = {}
        self._blobs: dict[bytes, tuple[str, list[int]]] = {}  # role and word pairs of long messages

    def add(self, request: bytes, read_blobs: ReadBlobs) -> None:
        """Add one request.

        Raises:
            DamagedEntryError: it does not unpack.
        """
        names, compared = self._parts_of(request, read_blobs)
        texts = [
            (name, self._look(item, read_blobs))
            for name, item in compared.items()
            if self._pieces.get(name) not in self._compared
        ]
        for name in names:
            if (piece := self._pieces.get(name)) is None:
                piece = self._pieces[name] = len(self._holders)
                self._holders.append([])
            self._holders[piece].append(self._count)
        for name, (_, pairs) in texts:
            piece = self._pieces[name]
            self._compared.add(piece)
            for pair in pairs:
                self._pairs.setdefault(pair, []).append(piece)
        self._count += 1

    def closest(self, conversation: Conversation, most: int) -> list[int]:
        """Numbers of the requests that share most with a conversation, rare things counting for more."""
        packed = pack_request(conversation)
        read_blobs = blobs_in(packed.blobs)
        names, compared = self._parts_of(packed.data, read_blobs)
        likeness: dict[int, float] = {}
        for item in compared.values():
            for piece, share in self._alike(self._look(item, read_blobs)[1]).items():
                likeness[piece] = max(share, likeness.get(piece, 0.0))
        likeness.update({self._pieces[name]: 1.0 for name in names if name in self._pieces})
        weights = {piece: share * log(1 + self._count / len(self._holders[piece])) for piece, share in likeness.items()}
        scores: dict[int, float] = {}
        work = _WORK
        for piece in heapq.nlargest(_WORK // 10, weights, key=weights.__getitem__):
            holders = self._holders[piece]
            if len(holders) > work:
                continue
            work -= len(holders)
            weight = weights[piece]
            for number in holders:
                scores[number] = scores.get(number, 0.0) + weight
        return heapq.nlargest(most, scores, key=lambda number: (scores[number], -number))

    def _alike(self, pairs: Sequence[int]) -> dict[int, float]:
        """Pieces that share word pairs with a text, and how much of them, from 0 to 1."""
        sharing = sorted((self._pairs.get(pair, ()) for pair in pairs), key=len)
        total, work = 0.0, _WORK
        shares: dict[int, float] = {}
        for pieces in sharing:
            weight = log(1 + (len(self._compared) + 1) / (len(pieces) + 1))
            total += weight
            work -= len(pieces)
            if work > 0:
                for piece in pieces:
                    shares[piece] = shares.get(piece, 0.0) + weight
        return {piece: share / total for piece, share in shares.items()}

    def _parts_of(self, request: bytes, read_blobs: ReadBlobs) -> tuple[set[Hashable], dict[Hashable, Message | bytes]]:
        """Names of the messages and nodes of a request, and the messages that are compared by their words, by name."""
        try:
            stored = stored_decoder.decode(decompress(request))
            chain = None if stored.head is None else self._chain(stored.head, read_blobs)
            names = {_name(item) for item in stored.messages}
            names.update(node.name for node in itertools.islice(_nodes(chain), _MOST_NODES))
            first = chain.first if chain is not None else next(iter(stored.messages), None)
            user = self._last_user(stored.messages, read_blobs) or (None if chain is None else chain.user)
            compared = {_name(user): user} if user is not None else {}
            if first is not None and self._role(first, read_blobs) == "system":
                compared[_name(first)] = first
            names.update(compared)
        except UNREADABLE as error:
            raise DamagedEntryError(f"the stored request does not unpack: {error}") from error
        return names, compared

    def _chain(self, head: bytes, read_blobs: ReadBlobs) -> _Chain:
        waiting = []
        name: bytes | None = head
        while name is not None and name not in self._chains:
            node = node_decoder.decode(blob_of(read_blobs([name]), name))
            waiting.append((name, node.messages))
            name = node.before
        chain = None if name is None else self._chains[name]
        for own, messages in reversed(waiting):
            first = chain.first if chain is not None else next(iter(messages), None)
            user = self._last_user(messages, read_blobs) or (None if chain is None else chain.user)
            chain = self._chains[own] = _Chain(own, chain, first, user)
        return self._chains[head]

    def _last_user(self, messages: Sequence[Message | bytes], read_blobs: ReadBlobs) -> Message | bytes | None:
        return next((item for item in reversed(messages) if self._role(item, read_blobs) == "user"), None)

    def _role(self, item: Message | bytes, read_blobs: ReadBlobs) -> str:
        return item.role if isinstance(item, Message) else self._look(item, read_blobs)[0]

    def _look(self, item: Message | bytes, read_blobs: ReadBlobs) -> tuple[str, list[int]]:
        """Role and word pairs of a message."""
        if isinstance(item, Message):
            return item.role, _word_pairs(item)
        if (known := self._blobs.get(item)) is None:
            message = message_decoder.decode(blob_of(read_blobs([item]), item))
            known = self._blobs[item] = message.role, _word_pairs(message)
        return known


def _nodes(chain: _Chain | None) -> Iterator[_Chain]:
    while chain is not None:
        yield chain
        chain = chain.before


def _name(item: Message | bytes) -> Hashable:
    return item if isinstance(item, bytes) else hash(item)


def _remembering(read_blobs: ReadBlobs) -> ReadBlobs:
    known: dict[bytes, bytes] = {}

    def read(names: Sequence[bytes]) -> Mapping[bytes, bytes]:
        known.update(read_blobs([name for name in names if name not in known]))
        return known

    return read


def _word_pairs(message: Message) -> list[int]:
    """Hashes of pairs of words that follow each other: of all there are, those with the smallest hashes."""
    text = "\n".join([part.text for part in message.parts if type(part) is Text])
    if len(text) > 2 * _ENDS:
        text = f"{text[:_ENDS]}\n{text[-_ENDS:]}"
    words = text.casefold().split()
    if not words:
        return []
    if max(map(len, words)) > _LONG_WORD:
        words = [piece for word in words for piece in _pieces_of_word(word)]
    pairs = {*map(hash, zip(["", *words], [*words, ""], strict=True))}
    return sorted(pairs)[:_PAIRS]


def _pieces_of_word(word: str) -> Iterable[str]:
    if len(word) <= _LONG_WORD:
        return [word]
    return [word[start : start + _PIECE] for start in range(len(word) - _PIECE + 1)]


def _prose(message: Message) -> str:
    if len(message.parts) == 1 and type(message.parts[0]) is Text:
        return message.parts[0].text
    texts = [part.text if isinstance(part, Text) else canonical(part).decode() for part in message.parts]
    return "\n".join(texts)


def _likeness(left: str, right: str) -> float:
    """The mean of how much beginning and end of two texts they share, and of how many words. Below 1."""
    longest = max(len(left), len(right))
    if not longest:
        return 0.0
    before = shared_prefix(left, right)
    after = shared_prefix(left[before:][::-1], right[before:][::-1])
    words, others = _words(left), _words(right)
    most = max(words.total() + others.total(), 1)
    return min((before + after) / longest + 2 * (words & others).total() / most, 1.98) / 2


def _words(text: str) -> Counter[str]:
    if len(text) > 2 * _SAMPLED:
        text = f"{text[:_SAMPLED]}\n{text[-_SAMPLED:]}"
    return Counter(_WORD.findall(text))
