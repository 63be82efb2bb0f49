"""What a model takes and what it refuses, told from its id.

Providers release models faster than anyone updates a table, so these are rules over a family's naming scheme: a model
of tomorrow gets the rules of its newest known relative. Each rule carries its source.
"""

import re

import msgspec

from lm_deluge.models.caching import OPENAI_BREAKPOINTS, Caching

__all__ = ["Traits", "traits_of"]


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes. The defaults are those of a model that nothing is known about.

    Attributes:
        reasoning: whether it takes a reasoning effort (``reasoning_effort``, or ``output_config.effort`` at Anthropic).
        rejects: sampling parameters that it answers with an error.
        sampling_efforts: reasoning efforts at which it takes them after all; None is a request that names no effort.
        min_cache_tokens: the shortest prefix the provider's prompt cache keeps, in tokens; None where it is not stated.
        caching: rules of the prompt cache at the model's own maker, where its other models have different ones.
    """

    reasoning: bool = False
    rejects: frozenset[str] = frozenset()
    sampling_efforts: frozenset[str | None] = frozenset()
    min_cache_tokens: int | None = None
    caching: Caching | None = None


# OpenAI, reasoning guide: these go with reasoning turned off and are refused otherwise.
_OPENAI_SAMPLING = frozenset(
    {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"}
)
_REASONS = Traits(reasoning=True, rejects=_OPENAI_SAMPLING, sampling_efforts=frozenset({"none"}))
_REASONS_ON_REQUEST = msgspec.structs.replace(_REASONS, sampling_efforts=frozenset({None, "none"}))
# First match counts.
_OPENAI_RULES = (
    (r"gpt-oss", Traits(reasoning=True)),  # open weights: what is refused depends on who serves them
    (r"gpt-5-chat", Traits()),  # the one model of its generation that does not reason
    # GPT-5.1 to 5.4 reason only when asked to, except for these variants.
    (r"gpt-5\.[1-4]-(chat|pro)|gpt-5\.1-codex", _REASONS),
    (r"gpt-5\.[1-4](?!\d)", _REASONS_ON_REQUEST),
    (r"o\d", msgspec.structs.replace(_REASONS, sampling_efforts=frozenset())),  # they always reason
    (r"gpt-5(\.5)?(?![.\d])", _REASONS),
    # OpenAI, prompt caching guide: breakpoints, and 1,024 tokens, from GPT-5.6 on; before, the minimum varies.
    (r"gpt-([5-9]|\d\d)", msgspec.structs.replace(_REASONS, min_cache_tokens=1_024, caching=OPENAI_BREAKPOINTS)),
)

_CLAUDE_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
_CLAUDE_EFFORT = r"claude-(opus-4-[5-9]|sonnet-4-[6-9]|[a-z]+-([5-9]|\d\d)(?!\d))"
# Anthropic, migration guides: sampling parameters are gone from Opus 4.7 and from the whole 5 generation.
_CLAUDE_NO_SAMPLING = r"claude-(opus-4-[7-9]|[a-z]+-([5-9]|\d\d)(?!\d))"
# Anthropic, prompt caching guide. First match counts; a model that the guide does not list matches nothing.
_CLAUDE_MINIMUMS = (
    (r"claude-(fable|mythos)-5(-1)?(?!-?\d)", 512),
    (r"claude-(opus-5(-5)?|sonnet-5-5|haiku-5-5)(?!-?\d)", 512),
    (r"claude-(opus-4-8|sonnet-5|sonnet-4-[56])(?!-?\d(?!\d))", 1_024),
    (r"claude-opus-4-7", 2_048),
    (r"claude-(opus-4-[56]|haiku-4-5)", 4_096),
    (r"claude-(opus|sonnet)-4(-0|-1)?(?!-?\d(?!\d))", 1_024),
    (r"claude-3(-5|-7)?-(opus|sonnet)", 1_024),
    (r"claude-3(-5)?-haiku", 2_048),
)


def traits_of(model_id: str) -> Traits:
    """What is known of ``model_id``, an id as its maker writes it (no provider prefix)."""
    if model_id.startswith("claude-"):
        minimum = next((tokens for pattern, tokens in _CLAUDE_MINIMUMS if re.match(pattern, model_id)), None)
        return Traits(
            reasoning=re.match(_CLAUDE_EFFORT, model_id) is not None,
            rejects=_CLAUDE_SAMPLING if re.match(_CLAUDE_NO_SAMPLING, model_id) else frozenset(),
            min_cache_tokens=minimum,
        )
    return next((traits for pattern, traits in _OPENAI_RULES if re.match(pattern, model_id)), Traits())
