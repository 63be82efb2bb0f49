"""Checks of what every store does."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from lm_deluge.cache.stores import ConditionalStore, ScanStore
from lm_deluge.errors import CacheError
from lm_deluge.testing._expect import expect, in_threads
from lm_deluge.testing._store_checks import Checks, entry, key_of
from lm_deluge.testing._store_child import numbered

if TYPE_CHECKING:
    from lm_deluge.cache.stores import Store

__all__ = ["BasicChecks"]

_MANY = 1500  # more than databases like in one statement
_MEGABYTE = 1024 * 1024

# Keys that code which takes them for text, for a path or for a pattern confuses with one another.
_LOOK_ALIKE = [
    bytes(32),
    bytes(31) + b"\x01",
    b"\x01" + bytes(31),
    b"\n" * 32,
    b"\r\n" * 16,
    b" " * 32,
    b"*" * 32,
    b"?" * 32,
    b"%" * 32,
    b"_" * 32,
    b"\\" * 32,
    b"'" * 32,
    b"../" * 10 + b"..",
    b"a" * 32,
    b"A" * 32,
    b"\x7f" * 32,
    b"\x80" * 32,
    b"\xff" * 32,
    b"\xff" * 31 + b"\xfe",
]


class BasicChecks(Checks):
    """Lookups, stores, removals, closing, and use from several places at once."""

    def test_it_says_what_it_is(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            expect(type(store.blocks), bool, "the type of blocks")
            expect(bool(store.location) and isinstance(store.location, str), True, "whether location is text")

    def test_what_was_stored_is_found_and_nothing_else(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            expect(store.get_many([key_of("a")]), [None], "a lookup in an empty store")
            store.put_many([entry("a", b"1")])
            expect(
                store.get_many([key_of("a"), key_of("b")]), [b"1", None], "one key that is there and one that is not"
            )

    def test_nothing_asked_nothing_done(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            expect(store.get_many([]), [], "a lookup of no keys")
            store.put_many([])

    def test_any_bytes(self, tmp_path: Path) -> None:
        directories = self.directories(tmp_path)
        keys, values = st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=300)

        @self.settings
        @given(st.dictionaries(keys, values, max_size=8))
        def run(wanted: dict[bytes, bytes]) -> None:
            with self.opened(next(directories)) as store:
                store.put_many([entry(key, value) for key, value in wanted.items()])
                expect(store.get_many(list(wanted)), list(wanted.values()), "values that were just stored")

        run()

    def test_keys_that_look_alike(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            for key in _LOOK_ALIKE:
                expect(store.get_many([key]), [None], f"a lookup of {key!r} before it is stored")
                store.put_many([entry(key, b"of " + key)])
            expect(store.get_many(_LOOK_ALIKE), [b"of " + key for key in _LOOK_ALIKE], "keys that look alike")

    def test_a_large_value(self, tmp_path: Path) -> None:
        large = bytes(range(256)) * (_MEGABYTE // 256)
        with self.opened(tmp_path) as store:
            store.put_many([entry("large", large), entry("small", b"s")])
            found = store.get_many([key_of("large"), key_of("small")])
            expect([value and len(value) for value in found], [_MEGABYTE, 1], "lengths of a large and a small value")
            expect(found[0] == large, True, "whether a value of 1 MB came back as it was")

    def test_order_and_repetition(self, tmp_path: Path) -> None:
        names = list(range(_MANY))
        with self.opened(tmp_path) as store:
            store.put_many([entry(name, f"v{name}".encode()) for name in names if name % 3])
            asked = [*reversed(names), *names[:10], *names[:10]]
            wanted = [f"v{name}".encode() if name % 3 else None for name in asked]
            found = store.get_many([key_of(name) for name in asked])
            expect(len(found), len(wanted), "the number of answers to a lookup of many keys, some twice")
            for name, value, right in zip(asked, found, wanted, strict=True):
                expect(value, right, f"the value of entry {name} among many")

    def test_the_last_one_stored_counts(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            store.put_many([entry("a", b"1"), entry("b", b"2")])
            store.put_many([entry("a", b"3")])
            expect(store.get_many([key_of("a"), key_of("b")]), [b"3", b"2"], "one entry replaced, one not")
            store.put_many([entry("a", b"4"), entry("b", b"5"), entry("a", b"6")])
            expect(store.get_many([key_of("a"), key_of("b")]), [b"6", b"5"], "one key twice in one put_many")

    def test_deleting(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            expect(store.delete(key_of("a")), False, "deleting what is not there")
            store.put_many([entry("a"), entry("b")])
            expect(store.delete(key_of("a")), True, "deleting what is there")
            expect(store.get_many([key_of("a"), key_of("b")]), [None, b"value"], "one entry deleted, one not")
            expect(store.delete(key_of("a")), False, "deleting what was deleted")
            store.put_many([entry("a", b"again")])
            expect(store.get_many([key_of("a")]), [b"again"], "an entry stored again after it was deleted")

    def test_only_what_was_found_is_quarantined(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            store.put_many([entry("a", b"good"), entry("b", b"bad")])
            expect(store.quarantine(key_of("none"), b"bad", "test"), False, "quarantining what is not there")
            expect(store.quarantine(key_of("a"), b"bad", "test"), False, "quarantining what was replaced meanwhile")
            expect(store.quarantine(key_of("b"), b"bad", "test"), True, "quarantining what is there")
            expect(store.get_many([key_of("a"), key_of("b")]), [b"good", None], "lookups after quarantining one")
            expect(store.quarantine(key_of("b"), b"bad", "test"), False, "quarantining twice")
            store.put_many([entry("b", b"better")])
            expect(store.get_many([key_of("b")]), [b"better"], "an entry stored again after it was quarantined")

    def test_what_others_stored_since_a_lookup_stays(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConditionalStore) as (store, conditional):
            expect(conditional.put_if_unchanged([], []), [], "storing nothing if unchanged")
            store.put_many([entry("a", b"1"), entry("b", b"2")])
            given = [entry("a", b"3"), entry("b", b"4"), entry("c", b"5"), entry("d", b"6")]
            done = conditional.put_if_unchanged(given, [b"1", b"1", None, b"1"])
            expect(done, [True, False, True, False], "of four entries, those that were stored because nothing changed")
            found = store.get_many([one.key for one in given])
            expect(found, [b"3", b"2", b"5", None], "four entries, two of them stored because nothing changed")
            expect(conditional.put_if_unchanged(given[2:3], [None]), [False], "storing what is there already")
            store.delete(key_of("a"))
            expect(conditional.put_if_unchanged(given[:1], [b"3"]), [False], "storing over what was deleted meanwhile")
            given = [entry(name, b"n") for name in range(_MANY)]
            expect(conditional.put_if_unchanged(given, [None] * _MANY), [True] * _MANY, "many stored if unchanged")
            if isinstance(store, ScanStore):
                (whole,) = store.read([given[0].key])
                expect(whole, given[0].as_stored(), "an entry that was stored because nothing changed, read whole")

    def test_of_many_threads_one_stores_if_unchanged(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConditionalStore) as (store, conditional):
            before: bytes | None = None
            for round_ in range(10):
                tries = [entry("a", b"%d of round %d" % (thread, round_)) for thread in range(6)]
                done = in_threads(
                    [lambda one=one, old=before: conditional.put_if_unchanged([one], [old]) for one in tries]  # type: ignore[misc]
                )
                winners = [one.value for one, stored in zip(tries, done, strict=True) if stored == [True]]
                expect(len(winners), 1, "how many of six threads stored an entry if it was unchanged")
                expect(store.get_many([key_of("a")]), winners, "what is there after one of six threads stored it")
                before = winners[0]

    def test_closing(self, tmp_path: Path) -> None:
        store = self.make(tmp_path)
        store.put_many([entry("a")])
        store.close()
        store.close()
        uses: dict[str, Any] = {
            "get_many": lambda: store.get_many([key_of("a")]),
            "put_many": lambda: store.put_many([entry("b")]),
            "delete": lambda: store.delete(key_of("a")),
            "quarantine": lambda: store.quarantine(key_of("a"), b"value", "test"),
        }
        for name, use in uses.items():
            try:
                use()
            except CacheError:
                continue
            except Exception as error:
                raise AssertionError(f"{name} after close raised {error!r}; a CacheError was expected") from error
            raise AssertionError(f"{name} after close raised nothing; a CacheError was expected")

    def test_reopening(self, tmp_path: Path) -> None:
        self.needs_reopening()
        for round_ in range(3):
            with self.opened(tmp_path) as store:
                for before in range(round_):
                    found = store.get_many([key_of(f"{before}-{number}") for number in range(20)])
                    expect(found, [b"%d" % before] * 20, f"what was stored {round_ - before} openings ago")
                store.put_many([entry(f"{round_}-{number}", b"%d" % round_) for number in range(20)])
        with self.opened(tmp_path) as store:
            expect(store.delete(key_of("0-0")), True, "deleting what an earlier opening stored")
            store.quarantine(key_of("0-1"), b"0", "test")
        with self.opened(tmp_path) as store:
            expect(store.get_many([key_of("0-0"), key_of("0-1")]), [None, None], "what an earlier opening took away")

    def test_two_open_at_once(self, tmp_path: Path) -> None:
        if not self.shares:
            pytest.skip("shares is False: this store is open once at a time")
        with self.opened(tmp_path) as one, self.opened(tmp_path) as two:
            one.put_many([entry("a", b"1")])
            expect(two.get_many([key_of("a")]), [b"1"], "what the other one stored")
            two.put_many([entry("a", b"2")])
            expect(one.get_many([key_of("a")]), [b"2"], "what the other one replaced")
            expect(one.delete(key_of("a")), True, "deleting what the other one stored")
            expect(two.get_many([key_of("a")]), [None], "what the other one deleted")

    def test_threads(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store:
            store.put_many([entry("shared", b"0")])

            def work(thread: int) -> None:
                for number in range(30):
                    name = f"{thread}-{number}"
                    store.put_many([entry(name, name.encode()), entry("shared", b"%d" % thread)])
                    found = store.get_many([key_of(name), key_of("missing"), key_of("shared")])
                    expect(found[:2], [name.encode(), None], "what this thread has just stored, and what is not there")
                    expect(found[2] is not None, True, "whether an entry is there while threads replace it")

            in_threads([lambda thread=thread: work(thread) for thread in range(4)])  # type: ignore[misc]
            names = [f"{thread}-{number}" for thread in range(4) for number in range(30)]
            found = store.get_many([key_of(name) for name in names])
            expect(found, [name.encode() for name in names], "what four threads stored")

    def test_processes(self, tmp_path: Path) -> None:
        with self.opened(tmp_path) as store, contextlib.ExitStack() as ending:
            children = [self.start_child(tmp_path, "put", name, 50) for name in ("one", "two")]
            for child in children:
                ending.enter_context(child)
                ending.callback(child.kill)  # before it is waited for, so that it ends if something fails below
            for own in numbered("own", 50):
                store.put_many([own])
            for child in children:
                self.finish(child)
            entries = [entry for name in ("one", "two", "own") for entry in numbered(name, 50)]
            found = store.get_many([entry.key for entry in entries])
            expect(found, [entry.value for entry in entries], "what three processes stored")

    def test_any_sequence(self, tmp_path: Path) -> None:
        """Hypothesis makes up sequences of calls, and a dictionary says what they should give."""

        class Machine(_Sequence):
            checks = self
            paths = self.directories(tmp_path)

        run_state_machine_as_test(Machine, settings=self.settings)


_keys = st.sampled_from(_LOOK_ALIKE[:5])
_values = st.binary(min_size=1, max_size=4)


class _Sequence(RuleBasedStateMachine):
    """Calls in any order, on a store and on a dictionary."""

    checks: ClassVar[Checks]
    paths: ClassVar[Iterator[Path]]

    def __init__(self) -> None:
        super().__init__()
        self._path = next(self.paths)
        self._store: Store = self.checks.make(self._path)
        self._model: dict[bytes, bytes] = {}

    @rule(pairs=st.lists(st.tuples(_keys, _values), max_size=4))
    def put(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._store.put_many([entry(key, value) for key, value in pairs])
        self._model.update(pairs)

    @rule(keys=st.lists(_keys, max_size=8))
    def get(self, keys: list[bytes]) -> None:
        expect(self._store.get_many(keys), [self._model.get(key) for key in keys], "get_many in a sequence of calls")

    @rule(key=_keys)
    def delete(self, key: bytes) -> None:
        was_there = self._model.pop(key, None) is not None
        expect(self._store.delete(key), was_there, "delete in a sequence of calls")

    @rule(key=_keys, value=_values)
    def quarantine(self, key: bytes, value: bytes) -> None:
        matches = self._model.get(key) == value
        expect(self._store.quarantine(key, value, "test"), matches, "quarantined in a sequence of calls")
        if matches:
            del self._model[key]

    @rule(key=_keys)
    def quarantine_what_is_there(self, key: bytes) -> None:
        if key in self._model:
            self.quarantine(key, self._model[key])

    @rule()
    def reopen(self) -> None:
        if self.checks.reopens:
            self._store.close()
            self._store = self.checks.make(self._path)

    def teardown(self) -> None:
        try:
            self.get(_LOOK_ALIKE)
        finally:
            self._store.close()
