"""Entries in a Redis or Valkey server, for many machines."""

from lm_deluge.cache.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
