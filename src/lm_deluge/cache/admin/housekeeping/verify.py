"""Checks of a store: whether each answer and each request can be read, and whether its facts are right."""

import warnings
from collections import Counter

import msgspec

from lm_deluge.cache._batched import batched
from lm_deluge.cache.admin.filters import scannable
from lm_deluge.cache.admin.puts import put_unchanged
from lm_deluge.cache.codec import decode
from lm_deluge.cache.entry import Entry, Stored
from lm_deluge.cache.facts import corrected, mistaken
from lm_deluge.cache.record import StoredRequest, refers_of, unpack_request
from lm_deluge.cache.stores import BoundedStore, Store
from lm_deluge.errors import CacheError, CacheWarning, DamagedEntryError
from lm_deluge.text import counted

__all__ = ["Problem", "VerifyReport", "verify"]

_MOST_PROBLEMS = 1_000
_AT_ONCE = 64


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        what: what is wrong, in words.
        key: of the entry that it concerns, in hexadecimal; None for the store itself.
        served: whether the entry's answer is whole all the same, and goes on being served.
        quarantined: whether the entry was taken out of service now.
        mended: whether the entry was put right now: its request dropped, or its facts written again.
    """

    what: str
    key: str | None = None
    served: bool = False
    quarantined: bool = False
    mended: bool = False


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of a store found.

    Attributes:
        entries: how many were read.
        damaged: entries whose answer cannot be read. A lookup treats each as a miss.
        requests: entries whose answer is whole and whose request cannot be read: they are served, but cannot be
            explained, exported or given new keys.
        facts: entries whose answer is whole and of which the store says something else than the answer itself: its
            cost, for example. They are served, but counted wrongly.
        quarantined: damaged entries that were taken out of service now.
        dropped: requests that cannot be read and were removed now.
        corrected: entries whose facts were written again now.
        digests: entries that are whole, and that hold digests of headers which may be secret, as older versions stored
            them. With ``fix`` these are left out now.
        store: how much is wrong with the store itself.
        problems: all of it in words; of very many, the first 1,000.
    """

    entries: int = 0
    damaged: int = 0
    requests: int = 0
    facts: int = 0
    quarantined: int = 0
    dropped: int = 0
    corrected: int = 0
    digests: int = 0
    store: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or all of it was put right."""
        mended = (self.quarantined, self.dropped, self.corrected)
        return not self.store and (self.damaged, self.requests, self.facts) == mended

    def __str__(self) -> str:
        said = [f"{counted(self.entries, 'entry', 'entries')} read"]
        if self.damaged:
            said.append(f"{counted(self.damaged, 'answer')} could not be read, {self.quarantined:,} quarantined")
        if self.requests:
            said.append(
                f"{counted(self.requests, 'request')} could not be read; their answers are whole and are still served, "
                "but cannot be explained, exported or re-keyed"
            )
        if self.facts:
            said.append(
                f"{counted(self.facts, 'entry', 'entries')} with other facts than the answer tells; "
                f"{self.corrected:,} of them corrected"
            )
        if self.digests:
            said.append(
                f"{counted(self.digests, 'entry', 'entries')} with digests of headers that may be secret, as older "
                "versions stored them; verify with fix leaves them out"
            )
        if self.store:
            said.append(f"{counted(self.store, 'problem')} of the store itself")
        return "\n".join(said)


def verify(store: Store, *, fix: bool = False) -> VerifyReport:
    """Check the store, decode each value, unpack each request, and compare the facts with the answer.

    Args:
        store: the store.
        fix: take damaged entries out of service; their bytes are kept, and their prompts are misses either way. Drop
            requests that cannot be read from entries whose answers can, and write facts again from the answers.

    Raises:
        CacheError: the store cannot say what it holds, or cannot be written.
    """
    return _Check(store, fix=fix).run()


class _Check:
    """A check in progress."""

    def __init__(self, store: Store, *, fix: bool) -> None:
        self._store = store
        self._scan = scannable(store)
        self._fix = fix
        self._to_mend: list[bytes] = []  # done at the end, because rewritten entries come up in the scan again
        self._counts: Counter[str] = Counter()
        self._problems: list[Problem] = []

    def run(self) -> VerifyReport:
        for what in self._scan.verify():
            self._report("store", Problem(what))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)  # of damage that the store has just reported
            try:
                for stored in self._scan.scan():
                    self._counts["entries"] += 1
                    self._entry(stored)
            except CacheError as error:
                # All that could be read was checked. Damage to the rest is a finding, not a failure of the check.
                self._report("store", Problem(str(error)))
        self._mend()
        return VerifyReport(problems=tuple(self._problems), **self._counts)

    def _entry(self, stored: Stored) -> None:
        key = stored.key.hex()
        try:
            decoded = decode(stored.key, stored.value)
        except DamagedEntryError as error:
            removed = self._fix and self._store.quarantine(stored.key, stored.value, str(error))
            self._counts["quarantined"] += removed
            self._report("damaged", Problem(str(error), key, quarantined=removed))
            return
        request = self._request(stored)
        said = request if isinstance(request, str) else None
        if said is not None:
            self._report("requests", Problem(said, key, served=True, mended=self._fix))
        wrong = mistaken(stored.facts, decoded)
        if wrong:
            what = f"the store has another {', '.join(wrong)} than the answer itself"
            self._report("facts", Problem(what, key, served=True, mended=self._fix))
        tells = isinstance(request, StoredRequest) and request.tells
        self._counts["digests"] += tells
        if self._fix and (said is not None or wrong or tells):
            self._to_mend.append(stored.key)

    def _request(self, stored: Stored) -> StoredRequest | str | None:
        """The stored request, or what is wrong with it; None if there is none."""
        try:
            return unpack_request(stored.request, self._scan.read_blobs) if stored.request else None
        except DamagedEntryError as error:
            if error.__cause__ is not None:  # the decoder's message means nothing to people
                return "the stored request does not unpack: it is damaged, or has another shape"
            return str(error).replace("the entry", "the stored request")

    def _mend(self) -> None:
        for keys in batched(self._to_mend, _AT_ONCE):
            found = self._scan.read(keys)  # again, because others may have stored better ones meanwhile
            mended = [entry for stored in found if stored is not None and (entry := self._mended(stored)) is not None]
            put_unchanged(self._store, mended, [entry.value for entry in mended])
            if isinstance(self._store, BoundedStore):
                for stored in found:
                    if stored is not None and stored.used is not None:
                        self._store.touch([stored.key], now=stored.used)

    def _mended(self, stored: Stored) -> Entry | None:
        """The entry with its facts put right, and without its request if that cannot be read; None if it is damaged."""
        try:
            decoded = decode(stored.key, stored.value)
        except DamagedEntryError:
            return None
        request = self._request(stored)
        drops = isinstance(request, str)
        self._counts["dropped"] += drops
        self._counts["corrected"] += bool(mistaken(stored.facts, decoded))
        packed = request.pack() if isinstance(request, StoredRequest) and request.tells else None
        data = b"" if drops else stored.request if packed is None else packed.data
        return msgspec.structs.replace(
            stored.as_entry(corrected(stored.facts, decoded)),
            request=data,
            refers=refers_of(data) if data else (),
            blobs={} if packed is None else packed.blobs,
        )

    def _report(self, kind: str, problem: Problem) -> None:
        self._counts[kind] += 1
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(problem)
