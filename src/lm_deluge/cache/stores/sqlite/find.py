"""All entries of a conversation: those whose keys begin with its own, which are neighbours in the index of keys."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lm_deluge.cache._batched import batched
from lm_deluge.cache.stores._candidates import in_order
from lm_deluge.cache.stores.sqlite.walk import MAX_VARIABLES, is_damage, select_by_key
from lm_deluge.canonical import conversation_of

__all__ = ["find"]

_LAST = b"\xff" * 16  # of what follows the conversation in a key
_PAIRS_AT_ONCE = MAX_VARIABLES // 2
_UNREADABLE = b""
# CROSS JOIN: SQLite keeps this order, so each conversation is one search of the index, however many entries there are.
# No name for the values: a connection takes a named table expression for a view, and allows none.
_SELECT = "SELECT key, created, response FROM (VALUES {}) CROSS JOIN entries ON key BETWEEN column1 AND column2"
_SELECT_KEYS = "SELECT key FROM entries WHERE key BETWEEN ? AND ?"

Row = tuple[bytes, Any, Any]


def find(
    reader: sqlite3.Connection, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
) -> list[list[tuple[bytes, bytes]]]:
    """As ``ConversationStore.find_many``."""
    rows: defaultdict[bytes, list[Row]] = defaultdict(list)
    for different in batched(dict.fromkeys(conversations), _PAIRS_AT_ONCE):
        for row in _rows(reader, different):
            rows[conversation_of(row[0])].append(row)
    return [_given(rows.get(one, ()), preferred) for one, preferred in zip(conversations, own, strict=True)]


def _given(rows: Sequence[Row], own: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    if not rows:
        return []
    if len(rows) == 1:
        return [(rows[0][0], rows[0][2])]
    values = {key: response for key, _, response in rows}
    return [(key, values[key]) for key in in_order(own, {key: _number(created) for key, created, _ in rows})]


def _rows(reader: sqlite3.Connection, conversations: Sequence[bytes]) -> list[Row]:
    bounds = [bound for conversation in conversations for bound in (conversation, conversation + _LAST)]
    try:
        return reader.execute(_SELECT.format(",".join(["(?,?)"] * len(conversations))), bounds).fetchall()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
    # A damaged page spoils the statement. Asked for one by one, only the entries on it are lost.
    return [row for conversation in conversations for row in _readable(reader, conversation)]


def _readable(reader: sqlite3.Connection, conversation: bytes) -> list[Row]:
    try:
        keys = [key for (key,) in reader.execute(_SELECT_KEYS, (conversation, conversation + _LAST))]
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return [(conversation, 0.0, _UNREADABLE)]  # the index itself is damaged here
    found, unreadable = select_by_key(reader, "SELECT key, created, response FROM entries WHERE key IN", keys)
    return [*((key, created, value) for key, created, value in found), *((key, 0.0, _UNREADABLE) for key in unreadable)]


def _number(cell: object) -> float:
    return cell if isinstance(cell, (int, float)) else 0.0
