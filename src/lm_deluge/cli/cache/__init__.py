"""``deluge cache``: looking into a cache, keeping it in order, and moving what is in it."""

from lm_deluge.cli.cache.app import cache_app

__all__ = ["cache_app"]
