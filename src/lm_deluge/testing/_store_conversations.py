"""Checks of stores that find all answers to a conversation."""

from pathlib import Path
from typing import TYPE_CHECKING

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores import ConversationStore
from lm_deluge.canonical import entry_key
from lm_deluge.testing._expect import expect
from lm_deluge.testing._store_checks import NOW, Checks, entry, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["ConversationChecks"]

_MANY = 700  # more than databases like in one statement


class ConversationChecks(Checks):
    """Several answers to one conversation."""

    def test_answers_to_a_conversation_stand_side_by_side(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConversationStore) as (store, finder):
            expect(finder.find_many([], []), [], "a search for no conversations")
            expect(finder.find_many([key_of("a")], [[]]), [[]], "a search in an empty store")
            store.put_many([_answer("a", 1), _answer("a", 2), _answer("b", 3)])
            expect(_values(finder, "a", "b", "c"), [{b"1", b"2"}, {b"3"}, set()], "the answers to three conversations")
            store.put_many([entry(_key("a", 2), b"new")])
            expect(_values(finder, "a"), [{b"1", b"new"}], "the answers after one was replaced")
            store.delete(_key("a", 1))
            expect(_values(finder, "a"), [{b"new"}], "the answers after one was deleted")
            store.quarantine(_key("a", 2), b"new", "test")
            expect(_values(finder, "a", "b"), [set(), {b"3"}], "the answers after another was quarantined")

    def test_the_preferred_ones_come_first_and_then_the_newest(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConversationStore) as (store, finder):
            times = {1: 30.0, 2: 10.0, 3: 50.0, 4: 20.0, 5: 40.0}
            store.put_many([_answer("a", number, created=NOW + time) for number, time in times.items()])
            wanted: list[tuple[Sequence[int], list[int]]] = [
                ((), [3, 5, 1, 4, 2]),
                ((4, 1), [4, 1, 3, 5, 2]),
                ((9, 2), [2, 3, 5, 1, 4]),
            ]
            for own, order in wanted:
                (found,) = finder.find_many([key_of("a")], [[_key("a", number) for number in own]])
                expect(
                    [key for key, _ in found], [_key("a", number) for number in order], f"the order, {own} preferred"
                )

    def test_an_answer_under_the_conversation_alone_is_found(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConversationStore) as (store, finder):
            store.put_many([entry(key_of("a"), b"old")])
            expect(finder.find_many([key_of("a")], [[]]), [[(key_of("a"), b"old")]], "an entry with a key of 32 bytes")
            store.put_many([_answer("a", 1, created=NOW + 1)])
            (found,) = finder.find_many([key_of("a")], [[_key("a", 1)]])
            expect([key for key, _ in found], [_key("a", 1), key_of("a")], "both, that of 48 bytes preferred")

    def test_only_a_few_answers_are_given(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConversationStore) as (store, finder):
            store.put_many([_answer("a", number, created=NOW + number) for number in range(40)])
            (found,) = finder.find_many([key_of("a")], [[_key("a", 35)]])
            order = [35, 39, 38, 37, 36, 34, 33, 32]
            expect([key for key, _ in found], [_key("a", number) for number in order], "8 answers of 40")

    def test_neighboring_conversations_are_told_apart(self, tmp_path: Path) -> None:
        starts = [bytes(32), bytes(31) + b"\x01", b"\x7f" * 32, b"\xff" * 31 + b"\xfe", b"\xff" * 32]
        ends = [bytes(16), bytes(15) + b"\x01", b"\xff" * 16]
        with self.capable(tmp_path, ConversationStore) as (store, finder):
            store.put_many([entry(start + end, b"%d" % at) for at, start in enumerate(starts) for end in ends])
            found = finder.find_many(starts, [[]] * len(starts))
            for at, (start, some) in enumerate(zip(starts, found, strict=True)):
                expect({key for key, _ in some}, {start + end for end in ends}, f"the keys that begin with {start!r}")
                expect({value for _, value in some}, {b"%d" % at}, f"the values under {start!r}")

    def test_many_conversations_at_once(self, tmp_path: Path) -> None:
        with self.capable(tmp_path, ConversationStore) as (store, finder):
            store.put_many([_answer(name, name) for name in range(_MANY) if name % 3])
            asked = [*reversed(range(_MANY)), 1, 1]
            found = finder.find_many([key_of(name) for name in asked], [[_key(name, name)] for name in asked])
            expect(len(found), len(asked), "the number of results of a search for many conversations, some twice")
            for name, some in zip(asked, found, strict=True):
                right = [(_key(name, name), b"%d" % name)] if name % 3 else []
                expect(some, right, f"the answers to conversation {name} among many")


def _key(conversation: object, number: int) -> bytes:
    return entry_key(key_of(conversation), key_of(f"parameters {number}"))


def _answer(conversation: object, number: int, *, created: float = NOW) -> Entry:
    return entry(_key(conversation, number), b"%d" % number, created=created)


def _values(finder: ConversationStore, *conversations: object) -> list[set[bytes]]:
    keys = [key_of(conversation) for conversation in conversations]
    return [{value for _, value in found} for found in finder.find_many(keys, [[]] * len(keys))]
