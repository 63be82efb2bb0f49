"""Coverage-guided fuzzing of everything that decodes stored bytes, with atheris (``pip install atheris``).

    python tests/cache/fuzz_entry.py                  until it finds something, or is stopped
    python tests/cache/fuzz_entry.py -runs=100000     that many inputs
    python tests/cache/fuzz_entry.py crash-...        an input that was found

Other arguments are those of libFuzzer. The first byte of an input chooses what reads the rest; checksums are made to be
right, so that what lies behind them is reached.
"""

import hashlib
import io
import struct
import sys
from collections.abc import Callable, Mapping, Sequence

import atheris

with atheris.instrument_imports(include=["lm_deluge"]):
    import msgspec

    from lm_deluge.cache.admin.archive import load
    from lm_deluge.cache.admin.archive.bundle import FORMAT, VERSION
    from lm_deluge.cache.codec import compress, decode, encode
    from lm_deluge.cache.record import refers_of, refers_of_blob, unpack_request
    from lm_deluge.cache.stores.memory import MemoryStore
    from lm_deluge.errors import CacheError, DamagedEntryError
    from lm_deluge.prompt import Conversation

KEY = bytes(range(32))


def entry(data: bytes) -> None:
    """As it is, and with a checksum that is right."""
    checked = struct.pack("<d8s", 1.0, bytes(8)) + compress(data)
    for value in (data, b"\x02" + hashlib.blake2b(checked, digest_size=8, key=KEY).digest() + checked):
        try:
            response = decode(KEY, value).response
        except DamagedEntryError:
            continue
        repr(response)
        response.to_dict()
        assert decode(KEY, encode(KEY, response)).response.content == response.content
        if response.content is not None:
            assert Conversation.user("?").add(response.content).digest


def request(data: bytes) -> None:
    """A request and the blobs that it names, cut out of one input."""
    first, *blobs = data.split(b"\xff\x00\xff")
    names = {hashlib.sha256(blob).digest(): blob for blob in blobs}

    def read(wanted: Sequence[bytes]) -> Mapping[bytes, bytes]:
        return {name: names[name] for name in wanted if name in names}

    plain = [
        first,
        msgspec.msgpack.encode({"messages": list(names)}),
        msgspec.msgpack.encode({"parameters": [*names, b""][0]}),
    ]
    for packed in (data, *map(compress, plain)):
        try:
            assert unpack_request(packed, read).conversation.digest
            refers_of(packed)
        except DamagedEntryError:
            continue


def blob(data: bytes) -> None:
    assert all(type(name) is bytes for name in refers_of_blob(data))


def bundle(data: bytes) -> None:
    """Lines with checksums that are right."""
    header = {"type": "header", "format": FORMAT, "version": VERSION, "keys": 1, "created": 0.0}
    store = MemoryStore()
    lines = [msgspec.json.encode(header), *(b"{" + line for line in data.split(b"\n"))]
    sealed = (b'{"sha256":"' + hashlib.sha256(line).hexdigest().encode() + b'",' + line[1:] for line in lines)
    try:
        load(store, io.BytesIO(b"\n".join(sealed) + b"\n" + data))
    except CacheError:
        return
    for stored in store.scan():
        decode(stored.key, stored.value)


READERS: list[Callable[[bytes], None]] = [entry, request, blob, bundle]


def read_one(data: bytes) -> None:
    if data:
        READERS[data[0] % len(READERS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, read_one)
    atheris.Fuzz()
