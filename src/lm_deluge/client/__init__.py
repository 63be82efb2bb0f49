"""``LLMClient``, what users hold."""

from lm_deluge.client.facade import LLMClient

__all__ = ["LLMClient"]
