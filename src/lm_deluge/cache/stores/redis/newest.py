"""The latest entries of a conversation in a Redis server, where keys are in no order.

They are noted in one string, the latest first: for each when it was stored, a double of 8 bytes, and its key of 48.
Notes of entries that are gone do no harm, and are pushed out by later ones. If all that were noted are gone, there may
be others, which are searched for among all keys, and then noted.
"""

import struct
from collections.abc import Callable, Sequence

from lm_deluge.cache.entry import Entry
from lm_deluge.cache.stores._candidates import MOST
from lm_deluge.cache.stores.redis.client import Command
from lm_deluge.cache.stores.redis.values import milliseconds
from lm_deluge.canonical import KEY_SIZES, conversation_of

__all__ = ["NOTE_AGAIN", "NOTE_ONE", "note", "note_commands", "noted"]

_NOTE = struct.Struct(f"<d{max(KEY_SIZES)}s")

# Notes last as long as the entry that lasts longest.
NOTE_ONE = f"""
local size, most = {_NOTE.size}, {MOST}
local function note(place, fresh, last)
    local before = redis.call('TYPE', place)['ok'] == 'string' and redis.call('GET', place) or ''
    local notes, created = {{}}, struct.unpack('<d', fresh)
    for at = 1, #before, size do
        local one = before:sub(at, at + size - 1)
        if #one == size and one:sub(9) ~= fresh:sub(9) then
            if created and not (struct.unpack('<d', one) > created) then
                notes[#notes + 1], created = fresh, nil
            end
            notes[#notes + 1] = one
        end
    end
    if created then
        notes[#notes + 1] = fresh
    end
    local left = before == '' and -2 or redis.call('PTTL', place)
    redis.call('SET', place, table.concat(notes, '', 1, math.min(#notes, most)))
    if last ~= '' and left ~= -1 then
        redis.call('PEXPIREAT', place, last)
        if left > redis.call('PTTL', place) then
            redis.call('PEXPIRE', place, left)
        end
    end
end
"""
"""What notes an entry, for scripts."""

NOTE = (
    NOTE_ONE
    + """
for i, place in ipairs(KEYS) do
    note(place, ARGV[2 * i - 1], ARGV[2 * i])
end
return #KEYS
"""
)
"""A script that notes entries. It takes the names, and for each a note, and when the entry expires in milliseconds, or
nothing."""

NOTE_AGAIN = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
if ARGV[2] == '' then
    redis.call('DEL', KEYS[1])
else
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
end
return 1
"""
"""A script that replaces notes, if they are still what they were. It takes the name, the old notes and the new ones."""


def note_commands(entries: Sequence[Entry], name: Callable[[bytes], bytes]) -> list[Command]:
    """What notes entries among the latest of their conversations, whose notes have a name each."""
    new = [entry for entry in entries if conversation_of(entry.key) != entry.key]
    if not new:
        return []
    arguments: list[object] = []
    for entry in new:
        end = "" if entry.expires is None else milliseconds(entry.expires)
        arguments += (note(entry.key, entry.facts.created), end)
    return [("EVAL", NOTE, len(new), *(name(conversation_of(entry.key)) for entry in new), *arguments)]


def note(key: bytes, created: float) -> bytes:
    """An entry of 48 bytes as it is noted."""
    return _NOTE.pack(created, key)


def noted(notes: bytes | None) -> dict[bytes, float]:
    """The keys that are noted, and when each entry was stored. What is no note is left out."""
    if notes is None or len(notes) % _NOTE.size or len(notes) > MOST * _NOTE.size:
        return {}
    return {key: created for created, key in _NOTE.iter_unpack(notes)}
