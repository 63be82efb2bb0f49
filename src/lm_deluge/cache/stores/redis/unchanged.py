"""Entries that a Redis server stores only if their keys have not changed since a lookup: a script compares first."""

import hashlib
from collections.abc import Callable, Sequence

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores.redis.client import Command
from lm_deluge.cache.stores.redis.newest import NOTE_ONE, note
from lm_deluge.cache.stores.redis.values import PARTS, milliseconds, parts
from lm_deluge.canonical import conversation_of

__all__ = ["put_command"]

# What is no string was no value for the lookup either.
_PUT = (
    NOTE_ONE
    + """
local function digest(name)
    local value = redis.call('TYPE', name)['ok'] == 'string' and redis.call('GET', name)
    return value and redis.sha1hex(value) or ''
end
local stored = {}
for i = 1, #KEYS / 4 do
    local name, given = 4 * i - 3, 6 * i - 5
    stored[i] = 0
    if digest(KEYS[name]) == ARGV[given] then
        local last = ARGV[given + 4]
        for part = 0, 2 do
            if last == '' then
                redis.call('SET', KEYS[name + part], ARGV[given + part + 1])
            else
                redis.call('SET', KEYS[name + part], ARGV[given + part + 1], 'PXAT', last)
            end
        end
        if ARGV[given + 5] ~= '' then
            note(KEYS[name + 3], ARGV[given + 5], last)
        end
        stored[i] = 1
    end
end
return stored
"""
)


def put_command(
    entries: Sequence[Entry], found: Sequence[bytes | None], name: Callable[[bytes, bytes], bytes]
) -> Command:
    """What stores the entries under whose keys is still what was found. It gives 1 for each that it stored, else 0.

    Args:
        entries: with different keys.
        found: the values that were found under their keys, and possibly more.
        name: makes the name of a kind and a key.
    """
    names: list[bytes] = []
    arguments: list[object] = []
    for entry, value in zip(entries, found, strict=False):
        conversation = conversation_of(entry.key)
        names += [*(name(kind, entry.key) for kind in PARTS), name(b"newest", conversation)]
        arguments.append("" if value is None else hashlib.sha1(value, usedforsecurity=False).hexdigest())
        arguments += parts(entry)
        arguments.append("" if entry.expires is None else milliseconds(entry.expires))
        arguments.append("" if conversation == entry.key else note(entry.key, entry.facts.created))
    return ("EVAL", _PUT, len(names), *names, *arguments)
