"""Whether everything in a store can still be read: the store itself, each answer, and each request."""

import warnings

import msgspec

from lm_deluge.cache.archive.filters import scannable
from lm_deluge.cache.codec import decode
from lm_deluge.cache.record import unpack_request
from lm_deluge.cache.stores import Store
from lm_deluge.errors import CacheError, CacheWarning, DamagedEntryError

__all__ = ["Problem", "VerifyReport", "verify"]

_MOST_PROBLEMS = 1_000


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        what: what is wrong, in words.
        key: of the entry that it concerns, in hexadecimal; None for the store itself.
        served: whether the entry's answer is whole all the same, and goes on being served.
        set_aside: whether the entry was taken out of service now.
    """

    what: str
    key: str | None = None
    served: bool = False
    set_aside: bool = False


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of a store found.

    Attributes:
        entries: how many were read.
        damaged: entries whose answer cannot be read. A lookup treats each as a miss.
        requests: entries whose answer is whole and whose request cannot be read: they are served, but cannot be
            explained, exported or given new keys.
        set_aside: damaged entries that were taken out of service now.
        store: how much is wrong with the store itself.
        problems: all of it in words; of very many, the first 1,000.
    """

    entries: int = 0
    damaged: int = 0
    requests: int = 0
    set_aside: int = 0
    store: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or what was wrong has been set aside."""
        return not self.store and not self.requests and self.damaged == self.set_aside


def verify(store: Store, *, fix: bool = False) -> VerifyReport:
    """Check the store, decode each value, and unpack each request.

    Args:
        store: the store.
        fix: take damaged entries out of service; their bytes are kept, and their prompts are misses either way.

    Raises:
        CacheError: the store cannot say what it holds.
    """
    check = _Check(store, fix=fix)
    whole = scannable(store)
    for what in whole.verify():
        check.store += 1
        check.report(Problem(what))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)  # of damage that the store has just reported
        try:
            for stored in whole.scan():
                check.entries += 1
                check.entry(stored.key, stored.value, stored.request)
        except CacheError as error:
            # What could be read has been checked; that the rest cannot be is what a check is there to find.
            check.store += 1
            check.report(Problem(str(error)))
    return VerifyReport(
        entries=check.entries,
        damaged=check.damaged,
        requests=check.requests,
        set_aside=check.set_aside,
        store=check.store,
        problems=tuple(check.problems),
    )


class _Check:
    """A check under way."""

    def __init__(self, store: Store, *, fix: bool) -> None:
        self._store = store
        self._read_blobs = scannable(store).read_blobs
        self._fix = fix
        self.entries = self.damaged = self.requests = self.set_aside = self.store = 0
        self.problems: list[Problem] = []

    def entry(self, key: bytes, value: bytes, request: bytes) -> None:
        try:
            decode(key, value)
        except DamagedEntryError as error:
            self.damaged += 1
            removed = self._fix and self._store.set_aside(key, value, str(error))
            self.set_aside += removed
            self.report(Problem(str(error), key.hex(), set_aside=removed))
            return
        if not request:
            return
        try:
            unpack_request(request, self._read_blobs)
        except DamagedEntryError as error:
            self.requests += 1
            self.report(Problem(str(error), key.hex(), served=True))

    def report(self, problem: Problem) -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)
