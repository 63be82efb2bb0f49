"""The response cache: prompts in, responses out, over any store.

``get`` and ``put`` are for users and block. The engine looks up and stores many at once through ``get_many`` and
``store``, which keep disks and networks off the event loop.
"""

import asyncio
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from lm_deluge.cache.batching import Batcher
from lm_deluge.cache.codec import decode, encode
from lm_deluge.cache.record import Entry, pack_request
from lm_deluge.cache.stores import Store
from lm_deluge.canonical import namespaced
from lm_deluge.errors import CacheError, CacheWarning, ConfigError, DamagedEntryError
from lm_deluge.prompt import Conversation
from lm_deluge.response import APIResponse

__all__ = ["Found", "ResponseCache"]


class Found(msgspec.Struct, frozen=True):
    """What a lookup of one prompt gave.

    Attributes:
        response: the stored response as it was put, or None.
        damage: what was wrong with the stored entry, if there was one that did not decode.
        failure: why the cache could not be asked, if it could not.
    """

    response: APIResponse | None = None
    damage: str | None = None
    failure: str | None = None


_MISS = Found()

_SMALL_BYTES = 32 * 1024  # packed in about a millisecond


class ResponseCache:
    """Responses by prompt, in a store. The key is the conversation alone, within the namespace ``cache_key``.

    Args:
        store: where the entries are.
        cache_key: a namespace; caches with different ones never see each other's entries.

    Raises:
        ConfigError: ``cache_key`` is empty or not text.
    """

    def __init__(self, store: Store, *, cache_key: str = "default") -> None:
        if type(cache_key) is not str or not cache_key:
            raise ConfigError(f"cache_key is {cache_key!r}; a name that is not empty is needed.")
        self._store = store
        self._cache_key = cache_key
        self._batcher: Batcher[Entry] = Batcher(store.put_many)
        self._closed = False

    def get(self, prompt: Conversation) -> APIResponse | None:
        """The stored response of a prompt, or None. Blocks. A damaged entry is set aside with a warning, and is None.

        Raises:
            CacheError: the cache is closed, or the store cannot be asked.
        """
        self._check_open()
        key = self._key(prompt)
        found = self._found(key, self._store.get_many([key])[0])
        if found.damage is not None:
            warnings.warn(f"A damaged cache entry counts as a miss: {found.damage}", CacheWarning, stacklevel=2)
        return found.response

    def put(self, prompt: Conversation, response: APIResponse) -> None:
        """Store a response. It is committed when this returns. Blocks.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
        """
        self._check_open()
        self._store.put_many([self._entry(prompt, response)])

    def delete(self, prompt: Conversation) -> bool:
        """Remove the stored response of a prompt; whether there was one. Blocks.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
        """
        self._check_open()
        return self._store.delete(self._key(prompt))

    async def get_many(self, prompts: Sequence[Conversation]) -> list[Found]:
        """Look many prompts up, off the event loop where the store blocks. Prompts must be loaded.

        Raises:
            CacheError: the cache is closed, or the store cannot be asked.
        """
        self._check_open()
        if self._store.blocks:
            return await asyncio.to_thread(self._read, prompts)
        return self._read(prompts)

    async def store(self, prompt: Conversation, response: APIResponse) -> None:
        """Store a response; committed on return. Many at once share a commit. Cancelling does not take it back.

        Raises:
            CacheError: the cache is closed, or the store cannot be written.
        """
        self._check_open()
        # Packing a usual answer takes less time than handing it to a thread, and the writer's thread, which competes
        # with this one for the interpreter, is left with little but SQLite's own work.
        if _is_small(prompt, response):
            entry = self._entry(prompt, response)
        else:
            entry = await asyncio.to_thread(self._entry, prompt, response)
        if self._store.blocks:
            await self._batcher.put(entry)
        else:
            self._store.put_many([entry])

    def close(self) -> None:
        """Write what is still under way, and release the store. Closing twice is fine. Blocks."""
        self._closed = True
        self._batcher.flush()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._store.location!r}, cache_key={self._cache_key!r})"

    @property
    def location(self) -> str:
        """Where the entries are, for messages."""
        return self._store.location

    def _key(self, prompt: Conversation) -> bytes:
        return namespaced(self._cache_key, prompt.digest)

    def _check_open(self) -> None:
        if self._closed:
            raise CacheError(f"The cache {self.location} is closed. Make a new one to go on.")

    def _read(self, prompts: Sequence[Conversation]) -> list[Found]:
        keys = [self._key(prompt) for prompt in prompts]
        values = self._store.get_many(keys)
        return [self._found(key, value) for key, value in zip(keys, values, strict=True)]

    def _found(self, key: bytes, value: object) -> Found:
        found = self._decode(key, value)
        if found.damage is not None:
            try:
                self._store.set_aside(key, value, found.damage)
            except Exception as error:  # noqa: BLE001 - a damaged entry is a miss even where it cannot be moved
                return Found(damage=f"{found.damage}. It could not be set aside: {error}")
            return Found(damage=f"{found.damage}. It was set aside.")
        return found

    def _decode(self, key: bytes, value: object) -> Found:
        if value is None:
            return _MISS
        try:
            if not isinstance(value, bytes):
                raise DamagedEntryError(f"the store gave a {type(value).__name__} where bytes were put")
            if not value:
                raise DamagedEntryError("the store cannot read it")
            return Found(decode(key, value))
        except DamagedEntryError as error:
            return Found(damage=f"{key.hex()[:16]}… in {self.location}: {error}")

    def _entry(self, prompt: Conversation, response: APIResponse) -> Entry:
        key = self._key(prompt)
        request, blobs = pack_request(prompt.load())
        # What is kept is the answer, not the circumstances in which it was asked for.
        kept = msgspec.structs.replace(response, id=0, local_cache_hit=False)
        return Entry(
            key=key,
            value=encode(key, kept),
            namespace=self._cache_key,
            request=request,
            blobs=blobs,
            response=kept,
        )


def _is_small(prompt: Conversation, response: APIResponse) -> bool:
    if len(response.raw_body or b"") > _SMALL_BYTES or not prompt.is_loaded:
        return False
    return 4 * prompt.count_tokens(img_tokens=_SMALL_BYTES) <= _SMALL_BYTES
