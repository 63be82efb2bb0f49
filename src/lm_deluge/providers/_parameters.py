"""Which sampling parameters the user set."""

from lm_deluge.config import SamplingParams

__all__ = ["is_set"]


def is_set(params: SamplingParams, name: str) -> bool:
    """Whether a parameter says something. 0 does: it is a temperature and a seed."""
    value = getattr(params, name)
    return value is not None and value is not False and value != ()
