"""The stored request of an answer. It explains misses, gives entries new keys, and goes with entries to other stores.

A request is a chain. Messages are gathered into nodes, and each node names the one before it. Requests with the same
beginning share its nodes, whether it is one message of 80 kB or eighty of one, so a request costs its own end and one
name. Long messages and media are blobs of their own and are shared too. Every node, long message and medium is stored
under its SHA-256.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from lm_deluge.cache._batched import batched
from lm_deluge.cache.codec import compress, decompress
from lm_deluge.cache.entry import Blob, ReadBlobs, blob_of
from lm_deluge.canonical import conversation_key, entry_key, parameters_of, request_key
from lm_deluge.errors import DamagedEntryError
from lm_deluge.prompt import Conversation, File, Image, Message, ToolResult
from lm_deluge.request import Parameters

__all__ = [
    "UNREADABLE",
    "PackedParameters",
    "PackedRequest",
    "Scope",
    "StoredRequest",
    "check_size",
    "pack_request",
    "refers_of",
    "refers_of_blob",
    "unpack_request",
    "with_media",
]

_INLINE_BYTES = 1024
_NODE_BYTES = 2048
_MOST_NODES = 100_000
_MOST_BYTES = 256 * 1024 * 1024  # of one request, its media included
_BLOBS_AT_ONCE = 16
_BLOB_URL = "blob:sha256:"

UNREADABLE = (msgspec.MsgspecError, TypeError, ValueError, RecursionError)
"""What the decoder raises for bytes that it does not know."""

Scope = Literal["conversation", "request"]


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A stored request, unpacked.

    Attributes:
        conversation: the prompt.
        parameters: what was asked beside it; None for direct ``put`` calls.
        scope: what the entry's key was made from.
        sample: which of several independent answers it is.
        redacted: whether the conversation was changed on export, so that it no longer gives the entry's key.
        tells: whether what is stored has digests of headers that may be secret, as older versions stored them.
            ``parameters`` is without.
    """

    conversation: Conversation
    parameters: Parameters | None = None
    scope: Scope = "conversation"
    sample: int = 0
    redacted: bool = False
    tells: bool = False

    def key(self, namespace: str, key: bytes = b"", *, finds: bool = True) -> bytes:
        """The key of its entry within a namespace.

        Args:
            namespace: the ``cache_key``.
            key: the one that the entry has. It says what was asked beside the conversation where the stored request
                does not, because it holds no digests of headers that may be secret.
            finds: whether the store finds all answers to a conversation; see ``ConversationStore``.

        Raises:
            DamagedEntryError: it does not say everything that its key was made from.
        """
        if self.scope == "request" and self.parameters is None:
            raise DamagedEntryError("the key is made from parameters too, and they were not stored")
        if not finds:
            return self._old_key(namespace)
        parameters = self.parameters
        asked = parameters_of(key) if parameters is None or not parameters.is_whole else parameters.digest
        return entry_key(conversation_key(namespace, self.conversation.digest, self.sample), asked)

    def has_key(self, key: bytes, namespace: str) -> bool:
        """Whether its entry can have a key within a namespace: that of today, or one of an older version.

        Raises:
            DamagedEntryError: it does not say everything that its key was made from.
        """
        return key in (self.key(namespace, key), self._old_key(namespace))

    def _old_key(self, namespace: str) -> bytes:
        """The key of 32 bytes that is made of what the scope says."""
        if self.scope == "request" and self.parameters is not None:
            return request_key(namespace, self.conversation.digest, self.parameters.digest, self.sample)
        return conversation_key(namespace, self.conversation.digest, self.sample)

    def pack(self) -> "PackedRequest":
        """Its stored form."""
        parameters = None if self.parameters is None else PackedParameters.of(self.parameters, self.scope)
        return pack_request(self.conversation, parameters, scope=self.scope, sample=self.sample, redacted=self.redacted)


class PackedRequest(msgspec.Struct, frozen=True):
    """A request as an ``Entry`` holds it: its bytes, the blobs that it names, and those blobs with all they need."""

    data: bytes
    refers: tuple[bytes, ...]
    blobs: dict[bytes, Blob]


class PackedParameters(msgspec.Struct, frozen=True):
    """Parameters as requests hold them: in place, or the name of a blob. Made once for all requests of a run."""

    inline: msgspec.Raw | bytes
    blobs: dict[bytes, Blob]

    @classmethod
    def of(cls, parameters: Parameters, scope: Scope = "request") -> "PackedParameters":
        encoded = _encoder.encode(_kept(parameters, scope))
        if len(encoded) <= _INLINE_BYTES:
            return cls(msgspec.Raw(encoded), {})
        name = hashlib.sha256(encoded).digest()
        return cls(name, {name: Blob(encoded)})


class _Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored form: each message as it is, or the name of its blob."""

    messages: list[Message | bytes]
    head: bytes | None = None
    parameters: Parameters | bytes | None = None
    scope: Scope = "conversation"
    sample: int = 0
    redacted: bool = False


class _Node(msgspec.Struct, frozen=True, omit_defaults=True, tag="node"):
    """Messages that follow those of another node."""

    messages: list[Message | bytes]
    before: bytes | None = None


_encoder = msgspec.msgpack.Encoder()
message_decoder = msgspec.msgpack.Decoder(Message)
_parameters_decoder = msgspec.msgpack.Decoder(Parameters)
stored_decoder = msgspec.msgpack.Decoder(_Stored)
node_decoder = msgspec.msgpack.Decoder(_Node)


def pack_request(
    conversation: Conversation,
    parameters: PackedParameters | None = None,
    *,
    scope: Scope = "conversation",
    sample: int = 0,
    redacted: bool = False,
) -> PackedRequest:
    """The stored form of a loaded conversation and of what was asked beside it."""
    chain = _Chain()
    for message in conversation.messages:
        chain.add(message)
    whole: dict[str, Any] = {"messages": chain.messages}
    refers = list(chain.refers)
    if chain.head is not None:
        whole["head"] = chain.head
        refers.append(chain.head)
    if parameters is not None:
        whole["parameters"] = parameters.inline
        chain.blobs.update(parameters.blobs)
        refers.extend(parameters.blobs)
    if scope != "conversation":
        whole["scope"] = scope
    if sample:
        whole["sample"] = sample
    if redacted:
        whole["redacted"] = True
    return PackedRequest(compress(_encoder.encode(whole)), tuple(dict.fromkeys(refers)), chain.blobs)


def unpack_request(request: bytes, read_blobs: ReadBlobs) -> StoredRequest:
    """A stored request.

    Args:
        request: as ``pack_request`` gave it.
        read_blobs: is called once for each node of the chain.

    Raises:
        DamagedEntryError: something does not unpack, or a blob is missing or not what its name says.
    """
    try:
        stored = stored_decoder.decode(decompress(request))
        reader = _Reader(read_blobs)
        messages = reader.messages(stored.head, stored.messages)
        parameters = stored.parameters
        if isinstance(parameters, bytes):
            parameters = _parameters_decoder.decode(reader.blob(parameters))
        conversation = Conversation(messages)
        if not conversation.is_loaded:
            # This package stores nothing like it. A path in a stranger's file must not make us read a local file.
            raise DamagedEntryError("the stored request names a local file instead of holding its content")
    except UNREADABLE as error:
        raise DamagedEntryError("the stored request has another shape") from error
    kept = None if parameters is None else _kept(parameters, stored.scope)
    return StoredRequest(
        conversation=conversation,
        parameters=kept,
        scope=stored.scope,
        sample=stored.sample,
        redacted=stored.redacted,
        tells=kept != parameters,
    )


def _kept(parameters: Parameters, scope: Scope) -> Parameters:
    """What is kept of parameters: no digest of what may be secret, and one of all of it only where a key needs it."""
    kept = parameters.guarded()
    if scope == "request" or kept.sealed is None:
        return kept
    return msgspec.structs.replace(kept, sealed=None)


def refers_of(request: bytes) -> tuple[bytes, ...]:
    """Names of the blobs that a packed request refers to directly.

    Raises:
        DamagedEntryError: it does not unpack.
    """
    try:
        stored = stored_decoder.decode(decompress(request))
        names = _refers(stored.messages)
    except UNREADABLE as error:
        raise DamagedEntryError("the stored request has another shape") from error
    if stored.head is not None:
        names[stored.head] = None
    if isinstance(stored.parameters, bytes):
        names[stored.parameters] = None
    return tuple(names)


def refers_of_blob(data: bytes) -> tuple[bytes, ...]:
    """Names of the blobs that a blob refers to: a node its messages and the node before it, a message its media."""
    with contextlib.suppress(*UNREADABLE):
        node = node_decoder.decode(data)
        names = _refers(node.messages)
        return tuple(names) if node.before is None else (*names, node.before)
    with contextlib.suppress(*UNREADABLE):
        return tuple(_refers([message_decoder.decode(data)]))
    return ()  # a medium, or parameters


class _Chain:
    """Gathers messages into nodes."""

    def __init__(self) -> None:
        self.messages: list[msgspec.Raw | bytes] = []
        self.head: bytes | None = None
        self.blobs: dict[bytes, Blob] = {}
        self.refers: dict[bytes, None] = {}
        self._size = 0

    def add(self, message: Message) -> None:
        if self._size > _NODE_BYTES:
            self._close_node()
        media: dict[bytes, None] = {}
        if message.media:
            message = with_media(message, lambda item: self._move_out(item, media))
        encoded = _encoder.encode(message)
        if len(encoded) <= _INLINE_BYTES:
            self.messages.append(msgspec.Raw(encoded))
            self.refers.update(media)
            self._size += len(encoded)
            return
        name = hashlib.sha256(encoded).digest()
        self.blobs[name] = Blob(encoded, tuple(media))
        self.refers[name] = None
        self.messages.append(name)
        self._size += len(name)

    def _close_node(self) -> None:
        node: dict[str, Any] = {"type": "node", "messages": self.messages}
        if self.head is not None:
            node["before"] = self.head
            self.refers[self.head] = None
        encoded = _encoder.encode(node)
        self.head = hashlib.sha256(encoded).digest()
        self.blobs[self.head] = Blob(encoded, tuple(self.refers))
        self.messages, self.refers, self._size = [], {}, 0

    def _move_out(self, item: Image | File, names: dict[bytes, None]) -> Image | File:
        if not item.data:
            return item
        name = bytes.fromhex(item.digest)
        self.blobs[name] = Blob(item.data)
        names[name] = None
        return msgspec.structs.replace(item, data=None, url=_BLOB_URL + item.digest)


class _Reader:
    """Reads messages from nodes and blobs."""

    def __init__(self, read_blobs: ReadBlobs) -> None:
        self._read_blobs = read_blobs
        self._blobs: dict[bytes, bytes] = {}
        self._size = 0

    def messages(self, head: bytes | None, last: Sequence[Message | bytes]) -> list[Message]:
        parts: list[Sequence[Message | bytes]] = [last]
        while head is not None:
            # A name is a hash of the node, so a chain has no loop; but it could be very long.
            if len(parts) > _MOST_NODES:
                raise DamagedEntryError("the stored request is a chain without end")
            node = node_decoder.decode(self.blob(head))
            parts.append(node.messages)
            head = node.before
        found = [message for part in reversed(parts) for message in part]
        names = [item for item in found if isinstance(item, bytes)]
        self._fetch(names)
        # A few bytes may name one long message many times over.
        check_size(sum(len(self._blobs[name]) for name in names))
        whole = [message_decoder.decode(self.blob(item)) if isinstance(item, bytes) else item for item in found]
        self._fetch(_refers(whole))
        media = [name for message in whole for name in _media_names(message)]
        check_size(sum(len(self._blobs[name]) for name in media))
        return [with_media(message, self._move_in) for message in whole]

    def blob(self, name: bytes) -> bytes:
        if name not in self._blobs:
            self._fetch([name])
        return self._blobs[name]

    def _fetch(self, names: Sequence[bytes] | Mapping[bytes, None]) -> None:
        missing = [name for name in names if name not in self._blobs]
        for some in batched(missing, _BLOBS_AT_ONCE):
            found = self._read_blobs(some)
            for name in some:
                data = blob_of(found, name)
                if hashlib.sha256(data).digest() != name:
                    raise DamagedEntryError(f"blob {name.hex()[:16]}… does not hold what its digest says")
                self._blobs[name] = data
                self._size += len(data)
            check_size(self._size)

    def _move_in(self, item: Image | File) -> Image | File:
        url = item.url or ""
        if not url.startswith(_BLOB_URL):
            return item
        return msgspec.structs.replace(item, data=self.blob(bytes.fromhex(url.removeprefix(_BLOB_URL))), url=None)


def check_size(size: int) -> None:
    """See that what a request stands for, as often as it names it, is not more than any request holds (256 MB).

    Raises:
        DamagedEntryError: it is.
    """
    if size > _MOST_BYTES:
        raise DamagedEntryError(f"the stored request has {size:,} bytes, which is more than any prompt has")


def _refers(messages: Sequence[Message | bytes]) -> dict[bytes, None]:
    names: dict[bytes, None] = {}
    for message in messages:
        names.update(dict.fromkeys([message] if isinstance(message, bytes) else _media_names(message)))
    return names


def _media_names(message: Message) -> list[bytes]:
    """Names of a message's media, each as often as it stands there."""
    urls = [item.url or "" for item in message.media]
    return [bytes.fromhex(url.removeprefix(_BLOB_URL)) for url in urls if url.startswith(_BLOB_URL)]


def with_media(message: Message, change: Callable[[Any], Any]) -> Message:
    """A message with other images and files, those in results of tools included."""
    if not message.media:
        return message
    return Message(message.role, [_changed(part, change) for part in message.parts])


def _changed(part: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(part, (Image, File)):
        return change(part)
    if isinstance(part, ToolResult) and not isinstance(part.result, str):
        return ToolResult(part.tool_call_id, tuple(_changed(item, change) for item in part.result), part.is_error)
    return part
