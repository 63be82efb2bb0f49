"""The response cache: prompts in, responses out, over any store.

``get`` and ``put`` are for users and block. The engine looks up and stores many at once through ``get_many`` and
``store``, which keep disks and networks off the event loop.
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from lm_deluge.cache.batching import Batcher
from lm_deluge.cache.codec import decode, encode
from lm_deluge.cache.record import Entry, pack_request
from lm_deluge.cache.stores import Store
from lm_deluge.canonical import namespaced
from lm_deluge.errors import ConfigError, DamagedEntryError
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


class ResponseCache:
    """Responses by prompt, in a store. The key is the conversation alone, within the namespace ``cache_key``.

    Args:
        store: where the entries are.
        cache_key: a namespace; caches with different ones never see each other's entries.
    """

    def __init__(self, store: Store, *, cache_key: str = "default") -> None:
        if not isinstance(cache_key, str) or not cache_key:
            raise ConfigError(f"cache_key is {cache_key!r}; a name that is not empty is needed.")
        self._store = store
        self._cache_key = cache_key
        self._batcher: Batcher[tuple[Conversation, APIResponse]] = Batcher(self._write)

    def get(self, prompt: Conversation) -> APIResponse | None:
        """The stored response of a prompt, or None. Blocks. A damaged entry is set aside and counts as none."""
        return self._read([prompt])[0].response

    def put(self, prompt: Conversation, response: APIResponse) -> None:
        """Store a response. It is committed when this returns. Blocks."""
        self._write([(prompt, response)])

    def delete(self, prompt: Conversation) -> bool:
        """Remove the stored response of a prompt; whether there was one. Blocks."""
        return self._store.delete(self._key(prompt))

    async def get_many(self, prompts: Sequence[Conversation]) -> list[Found]:
        """Look many prompts up, off the event loop where the store blocks. Prompts must be loaded."""
        if self._store.blocks:
            return await asyncio.to_thread(self._read, prompts)
        return self._read(prompts)

    async def store(self, prompt: Conversation, response: APIResponse) -> None:
        """Store a response; committed on return. Many at once share a commit."""
        if self._store.blocks:
            await self._batcher.put((prompt, response))
        else:
            self._write([(prompt, response)])

    def close(self) -> None:
        """Release the store. Closing twice is fine."""
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

    def _read(self, prompts: Sequence[Conversation]) -> list[Found]:
        keys = [self._key(prompt) for prompt in prompts]
        values = self._store.get_many(keys)
        return [_MISS if value is None else self._decode(key, value) for key, value in zip(keys, values, strict=True)]

    def _decode(self, key: bytes, value: Any) -> Found:
        try:
            if not isinstance(value, bytes):
                raise DamagedEntryError(f"the store gave a {type(value).__name__} where bytes were put")
            return Found(decode(key, value))
        except DamagedEntryError as error:
            damage = f"{key.hex()[:16]}… in {self.location}: {error}"
            try:
                self._store.set_aside(key, str(error))
            except Exception as failure:  # noqa: BLE001 - a damaged entry is a miss even where it cannot be moved
                damage += f" (it could not be set aside: {failure})"
            return Found(damage=damage)

    def _write(self, items: Sequence[tuple[Conversation, APIResponse]]) -> None:
        self._store.put_many([self._entry(prompt.load(), response) for prompt, response in items])

    def _entry(self, prompt: Conversation, response: APIResponse) -> Entry:
        key = self._key(prompt)
        request, blobs = pack_request(prompt)
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
