"""Entries in a Redis or Valkey server, through ``redis-py``: many processes on many machines share them.

Every name begins with a prefix and a kind; what follows are the bytes of a key or of a digest::

    lm_deluge:value:KEY     the value of an entry; a lookup is one MGET of these
    lm_deluge:request:KEY   its packed request
    lm_deluge:facts:KEY     its namespace, facts, expiry, and the names of the blobs it refers to
    lm_deluge:newest:KEY    the latest entries of a conversation: when each was stored, and its key
    lm_deluge:blob:NAME     a blob, compressed, with the names it refers to
    lm_deluge:lease:KEY     who fetches the answer of a key
    lm_deluge:aside         a list of what was quarantined
    lm_deluge:runs          a hash of runs by id
    lm_deluge:format        the version of this layout
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from lm_deluge.cache._batched import batched
from lm_deluge.cache.entry import Blob, Entry, Quarantined, Stored
from lm_deluge.cache.runs import Run
from lm_deluge.cache.stores._candidates import MOST, in_order
from lm_deluge.cache.stores.redis.address import Address
from lm_deluge.cache.stores.redis.client import Command, RedisClient
from lm_deluge.cache.stores.redis.limits import AT_ONCE, exchange, pieces
from lm_deluge.cache.stores.redis.newest import NOTE_AGAIN, note, note_commands, noted
from lm_deluge.cache.stores.redis.scripts import ACQUIRE, QUARANTINE, RELEASE, RENEW
from lm_deluge.cache.stores.redis.unchanged import put_command
from lm_deluge.cache.stores.redis.values import (
    ABOUT,
    PARTS,
    QUARANTINED,
    RUN,
    About,
    decode,
    encode,
    milliseconds,
    pack_blob,
    parts,
    unpack_blob,
    until,
)
from lm_deluge.canonical import KEY_SIZES, conversation_of
from lm_deluge.errors import CacheError, CacheFileError, CacheVersionError

__all__ = ["RedisStore"]

_FORMAT = 1
_SOON_MS = 60_000  # a blob with less time left is sent again: it could expire before its entry arrives
_FOR_EVER = -1  # PTTL of a key that does not expire


class RedisStore:
    """A Redis server of version 7 or later, or a Valkey server; not a cluster of them.

    An entry is in the server's memory, whole, when ``put_many`` returns. Whether it survives the server is the
    server's affair: set ``appendonly yes`` there, with ``appendfsync always`` if it is to survive a power cut too.
    Likewise its size: set ``maxmemory`` and a ``maxmemory-policy`` that evicts, or give entries an end.

    Entries that expire are removed by the server, by its own clock, which also times the leases. A blob lasts as long
    as the longest-lived entry that was stored with it. Blobs do not know who refers to them, so deleting entries leaves
    theirs behind; no deletion can take away what another entry needs.

    Args:
        url: ``redis://[user:password@]host[:port][/database]``, ``rediss://...`` for TLS, or
            ``unix://[user:password@]/path/to/socket[?db=database]``. Further options of redis-py may follow after "?".
            A password that is not in it is looked for in the environment: in ``LM_DELUGE_REDIS_PASSWORD`` and
            ``REDIS_PASSWORD``, or in the files that the same names with ``_FILE`` give.
        prefix: what all names in the server begin with.

    Raises:
        ImportError: ``redis`` is missing; the message holds the command that installs it.
        ConfigError: ``url`` is not of that form, or the file of the password cannot be read.
        CacheFileError: the server cannot be reached, or refuses us.
        CacheVersionError: a newer version of this package stored entries there. They are left untouched.
    """

    blocks: ClassVar[bool] = True
    patience: ClassVar[float] = 5.0

    def __init__(self, url: str, *, prefix: str = "lm_deluge") -> None:
        self._prefix = f"{prefix}:".encode()
        self._closed = False
        address = Address(url)
        self._client = RedisClient(address)
        try:
            self._claim(address)
        except BaseException:
            self.close()
            raise

    def _claim(self, address: Address) -> None:
        try:
            self._check_format()
        except CacheFileError as error:
            if not (address.credentials and self._client.needs_no_password(error)):
                raise
            # The password in the environment is for another server.
            self._client.close()
            self._client = RedisClient(address.as_given())
            self._check_format()

    def _check_format(self) -> None:
        name = self._prefix + b"format"
        found = self._used.get(name)
        if found is None:
            self._used.set_first(name, _FORMAT)
            found = self._used.get(name)
        if found is not None and found != str(_FORMAT).encode():
            raise CacheVersionError(
                f"A newer version of lm_deluge wrote the cache in {self.location}: its format is {found[:20]!r}, and "
                f"this version knows {_FORMAT}. Update lm_deluge, or use another database of the server."
            )

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._get(b"value", keys)

    def find_many(
        self, conversations: Sequence[bytes], own: Sequence[Sequence[bytes]]
    ) -> list[list[tuple[bytes, bytes]]]:
        """As the protocol says. What is preferred comes with the first exchange; the others, if there are any, with a
        second one."""
        # Under the conversation's own name may be what an older version stored.
        direct = [[*preferred, conversation] for preferred, conversation in zip(own, conversations, strict=True)]
        names = [self._name(b"newest", conversation) for conversation in conversations]
        names += [self._name(b"value", key) for keys in direct for key in keys]
        found = self._get_named(names)
        latest = [noted(one) for one in found[: len(conversations)]]
        values = dict(zip([key for keys in direct for key in keys], found[len(conversations) :], strict=True))
        others = list(dict.fromkeys(key for created in latest for key in created if key not in values))
        values.update(zip(others, self._get(b"value", others), strict=True))
        given: list[list[tuple[bytes, bytes]]] = []
        for keys, preferred, created in zip(direct, own, latest, strict=True):
            there = {key: value for key in (*keys, *created) if (value := values[key]) is not None}
            order = in_order(preferred, {key: created.get(key, 0.0) for key in there})
            given.append([(key, there[key]) for key in order])
        gone = {
            conversation: notes
            for conversation, notes, created, some in zip(conversations, found, latest, given, strict=False)
            if notes is not None and len(created) == MOST and not some
        }
        if gone:
            others_of = self._search(gone)
            given = [some or others_of.get(one, []) for one, some in zip(conversations, given, strict=True)]
        return given

    def _search(self, gone: Mapping[bytes, bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
        """The entries of conversations of which all that were noted are gone: found among all keys, and noted again.

        Args:
            gone: the notes, by conversation.
        """
        keys_of: dict[bytes, dict[bytes, float]] = {conversation: {} for conversation in gone}
        beginning = next(iter(gone)) if len(gone) == 1 else b""
        for keys in self._scan(b"value", AT_ONCE, beginning):
            wanted = [key for key in keys if conversation_of(key) in gone and conversation_of(key) != key]
            for key, about in self._about(wanted).items():
                keys_of[conversation_of(key)][key] = about.facts.created
        given: dict[bytes, list[tuple[bytes, bytes]]] = {}
        for conversation, created in keys_of.items():
            order = in_order([], created)
            notes = b"".join(note(key, created[key]) for key in order)
            self._used.run(NOTE_AGAIN, [self._name(b"newest", conversation)], [gone[conversation], notes])
            values = zip(order, self._get(b"value", order), strict=True)
            given[conversation] = [(key, value) for key, value in values if value is not None]
        return given

    def put_many(self, entries: Sequence[Entry]) -> None:
        for some in pieces(entries):
            commands = self._blob_commands(some)
            for entry in some:
                for kind, content in zip(PARTS, parts(entry), strict=True):
                    commands.append(("SET", self._name(kind, entry.key), content, *until(entry.expires)))
            notes = note_commands(some, lambda key: self._name(b"newest", key))
            self._used.all_or_none([*commands, *notes])

    def put_if_unchanged(self, entries: Sequence[Entry], found: Sequence[bytes | None]) -> list[bool]:
        stored: list[bool] = []
        for some in pieces(entries):
            commands = [*self._blob_commands(some), put_command(some, found[len(stored) :], self._name)]
            stored += self._used.flags_in(self._used.all_or_none(commands)[-1], len(some))
        return stored

    def quarantine(self, key: bytes, value: object, reason: str) -> bool:
        if not isinstance(value, bytes):
            return False
        names = [self._name(kind, key) for kind in PARTS]
        (request,) = self._used.get_many(names[1:2])
        quarantined = Quarantined(key=key, when=time.time(), reason=reason, value=value, request=request or b"")
        return bool(self._used.run(QUARANTINE, [*names, self._prefix + b"aside"], [value, encode(quarantined)]) == 1)

    def delete(self, key: bytes) -> bool:
        return self.delete_many([key]) > 0

    def close(self) -> None:
        self._closed = True
        self._client.close()

    @property
    def identity(self) -> str:
        """What tells this cache from others, including the prefix."""
        return f"{self.location} {self._prefix.decode(errors='replace')}"

    @property
    def location(self) -> str:
        return self._client.location

    # Scanning

    def scan(self, *, namespace: str | None = None, newest_first: bool = False, batch: int = 256) -> Iterator[Stored]:
        """As the protocol says. There is no index by time, so ``newest_first`` looks at all facts before it begins."""
        created: dict[bytes, float] = {}
        seen: set[bytes] = set()  # a server may name a key twice
        for keys in self._scan(b"value", batch):
            new = [key for key in keys if key not in seen]
            seen.update(new)
            about = {key: of for key, of in self._about(new).items() if namespace in (None, of.namespace)}
            if newest_first:
                created.update((key, of.facts.created) for key, of in about.items())
            else:
                yield from filter(None, self.read(list(about)))
        for some in batched(sorted(created, key=created.__getitem__, reverse=True), batch):
            yield from filter(None, self.read(some))

    def read(self, keys: Sequence[bytes]) -> list[Stored | None]:
        about = self._about(keys)
        parts = zip(keys, self._get(b"value", keys), self._get(b"request", keys), strict=True)
        return [None if value is None else about[key].stored(key, value, request) for key, value, request in parts]

    def read_blobs(self, names: Sequence[bytes]) -> dict[bytes, bytes]:
        found = zip(names, map(unpack_blob, self._get(b"blob", names)), strict=True)
        return {name: blob.data for name, blob in found if blob is not None}

    def delete_many(self, keys: Sequence[bytes]) -> int:
        """Remove entries; how many there were. Their blobs stay."""
        deleted = 0
        for some in batched(keys, AT_ONCE):
            commands: list[Command] = [("DEL", *[self._name(kind, key) for key in some]) for kind in PARTS]
            gone = self._used.all_or_none(commands)[0]
            deleted += gone if isinstance(gone, int) else 0
        return deleted

    def quarantined(self) -> Iterator[Quarantined]:
        for packed in self._used.list_pieces(self._prefix + b"aside", AT_ONCE):
            yield from filter(None, (decode(QUARANTINED, one) for one in packed))

    def delete_quarantined(self, keys: Sequence[bytes]) -> int:
        """Remove what was quarantined under some keys; how much there was. Its blobs stay."""
        unwanted, name = set(keys), self._prefix + b"aside"
        removals: list[Command] = []
        for packed in self._used.list_pieces(name, AT_ONCE):
            for one in packed:
                quarantined = decode(QUARANTINED, one)
                if quarantined is not None and quarantined.key in unwanted:
                    removals.append(("LREM", name, 1, one))  # by its bytes, because positions change
        return sum(sum(self._used.numbers(some)) for some in batched(removals, AT_ONCE))

    def usage(self) -> Mapping[str, int]:
        """As the protocol says; ``bytes`` are those of values, requests, facts and blobs in the server's memory."""
        count = dict.fromkeys((*PARTS, b"blob"), 0)
        size = 0
        for kind in count:
            for keys in self._scan(kind, AT_ONCE):
                count[kind] += len(keys)
                size += sum(self._used.numbers([("STRLEN", self._name(kind, key)) for key in keys]))
        quarantined = self._used.list_length(self._prefix + b"aside")
        return {
            "entries": count[b"value"],
            "blobs": count[b"blob"],
            "quarantined": quarantined,
            "bytes": size,
            "on_disk": 0,
        }

    def verify(self) -> Iterator[str]:
        needed: set[bytes] = set()
        for keys in self._scan(b"facts", AT_ONCE):
            for key, packed in zip(keys, self._get(b"facts", keys), strict=True):
                about = decode(ABOUT, packed)
                if about is not None:
                    needed.update(about.refers)
                elif packed is not None:
                    yield f"the facts of {key.hex()[:16]}… do not decode"
        for names in self._scan(b"blob", AT_ONCE):
            for name, packed in zip(names, self._get(b"blob", names), strict=True):
                blob = unpack_blob(packed)
                if blob is not None and hashlib.sha256(blob.data).digest() == name:
                    needed.update(blob.refers)
                elif packed is not None:
                    yield f"blob {name.hex()[:16]}… does not hold what its digest says"
        names = sorted(needed)
        for name, left in zip(names, self._left(names), strict=True):
            if left is not None and left < 0:
                yield f"blob {name.hex()[:16]}… is missing"
        quarantined = self._used.list_length(self._prefix + b"aside")
        runs = self._used.field_count(self._prefix + b"runs")
        if lost := quarantined - sum(1 for _ in self.quarantined()):
            yield f"{lost} of {quarantined} quarantined entries do not decode"
        if lost := runs - sum(1 for _ in self.runs()):
            yield f"the accounts of {lost} of {runs} runs do not decode"

    # Leases, by the server's clock

    def acquire(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        return self._on_leases(ACQUIRE, keys, holder, seconds)

    def renew(self, keys: Sequence[bytes], holder: bytes, *, now: float, seconds: float) -> list[bool]:
        return self._on_leases(RENEW, keys, holder, seconds)

    def release(self, keys: Sequence[bytes], holder: bytes) -> None:
        for some in batched(keys, AT_ONCE):
            self._used.run(RELEASE, [self._name(b"lease", key) for key in some], [holder])

    def _on_leases(self, script: str, keys: Sequence[bytes], holder: bytes, seconds: float) -> list[bool]:
        done: list[bool] = []
        arguments = [holder, max(1, round(seconds * 1000))]
        for some in batched(keys, AT_ONCE):
            done.extend(self._used.flags(script, [self._name(b"lease", key) for key in some], arguments))
        return done

    # Runs

    def record_run(self, run: Run) -> None:
        self._used.set_field(self._prefix + b"runs", str(run.id), encode(run))

    def runs(self) -> Iterator[Run]:
        packed = self._used.fields(self._prefix + b"runs")
        found = filter(None, (decode(RUN, one) for one in packed))
        yield from sorted(found, key=lambda run: run.started, reverse=True)

    # Reading and writing

    def _blob_commands(self, entries: Sequence[Entry]) -> list[Command]:
        """Commands that store blobs: missing ones completely, the others only if they have to last longer."""
        blobs: dict[bytes, tuple[Blob, float | None]] = {}
        for entry in entries:
            for name, blob in entry.blobs.items():
                before = blobs.get(name, (blob, entry.expires))[1]
                both = None if before is None or entry.expires is None else max(before, entry.expires)
                blobs[name] = blob, both
        commands: list[Command] = []
        for name, left in zip(blobs, self._left(list(blobs)), strict=True):
            if left is None:
                continue
            (blob, expires), place = blobs[name], self._name(b"blob", name)
            if left < _SOON_MS:
                packed = pack_blob(blob)
                commands.append(("SET", place, packed, "NX", *until(expires)))
            if expires is None:
                commands.append(("PERSIST", place))
            else:
                commands.append(("PEXPIREAT", place, milliseconds(expires), "GT"))
        return commands

    def _left(self, names: Sequence[bytes]) -> list[int | None]:
        """How many milliseconds each blob has left: None for no end, less than 0 if it is not there."""
        left: list[int] = []
        for some in batched(names, AT_ONCE):
            left.extend(self._used.numbers([("PTTL", self._name(b"blob", name)) for name in some]))
        return [None if one == _FOR_EVER else one for one in left]

    def _about(self, keys: Sequence[bytes]) -> dict[bytes, About]:
        found = zip(keys, self._get(b"facts", keys), strict=True)
        # Facts are for people; an entry is given without them if they do not decode.
        return {key: decode(ABOUT, packed) or About() for key, packed in found}

    def _scan(self, kind: bytes, size: int, beginning: bytes = b"") -> Iterator[list[bytes]]:
        """Keys of a kind that begin in some way, in pieces. Some may come twice."""
        start = self._name(kind, b"")
        for names in self._used.scan(_literally(start + beginning) + b"*", size):
            # Another prefix may begin with ours. Names under it are longer.
            yield [name[len(start) :] for name in names if len(name) - len(start) in KEY_SIZES]

    def _get(self, kind: bytes, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._get_named([self._name(kind, key) for key in keys])

    def _get_named(self, names: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for some in batched(names, AT_ONCE):
            with exchange():
                found.extend(self._used.get_many(some))
        return found

    def _name(self, kind: bytes, key: bytes) -> bytes:
        return self._prefix + kind + b":" + key

    @property
    def _used(self) -> RedisClient:
        if self._closed:
            raise CacheError(f"The cache in {self.location} is closed. Make a new one to go on.")
        return self._client


def _literally(name: bytes) -> bytes:
    """A pattern that matches nothing else."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", name)
