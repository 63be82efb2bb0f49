"""Where entries are kept: one file for each backend, behind a protocol that knows bytes and nothing else."""

from lm_deluge.cache.stores._protocol import Store

__all__ = ["Store"]
