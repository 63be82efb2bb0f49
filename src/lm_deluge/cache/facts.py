"""The facts of an answer, read from the answer itself."""

from lm_deluge.cache.codec import Decoded
from lm_deluge.cache.entry import Facts
from lm_deluge.response import APIResponse

__all__ = ["corrected", "facts_of", "mistaken"]

_TOLD = [name for name in Facts.__struct_fields__ if name not in ("created", "run")]


def facts_of(response: APIResponse, *, created: float = 0.0, run: int = 0) -> Facts:
    """What a store shows of an answer.

    Args:
        response: as it was stored.
        created: when, in seconds since the Unix epoch.
        run: the run that bought it; 0 for none.
    """
    usage = response.usage
    return Facts(
        created=created,
        asked=response.model_internal or None,
        model=response.model_external or response.model_internal or None,
        finish_reason=response.finish_reason,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        cache_read_tokens=None if usage is None else usage.cache_read_tokens,
        cache_write_tokens=None if usage is None else usage.cache_write_tokens,
        cost=response.cost,
        run=run,
    )


def corrected(facts: Facts, decoded: Decoded) -> Facts:
    """The facts with corrections from the answer. A value may not tell when it was stored."""
    return facts_of(decoded.response, created=decoded.created or facts.created, run=facts.run)


def mistaken(facts: Facts, decoded: Decoded) -> list[str]:
    """Names of the facts that differ from the answer. Facts that a store does not have are no mistakes."""
    right = corrected(facts, decoded)
    wrong = [name for name in _TOLD if (noted := getattr(facts, name)) is not None and noted != getattr(right, name)]
    return ["created", *wrong] if facts.created and facts.created != right.created else wrong
