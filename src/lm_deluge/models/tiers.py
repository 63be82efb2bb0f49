"""Processing tiers: how fast, how certainly or where an answer was worked out, in the providers' own words.

A tier matters because it has a price of its own. Each provider has another word for the standard one; here it is None.
"""

__all__ = ["tier_of"]

# OpenAI and xAI answer "default", Anthropic and Google "standard", Groq "on_demand". "auto" is what was asked, from
# servers that repeat the request.
_STANDARD = frozenset({"auto", "default", "standard", "on_demand"})


def tier_of(*words: str | None) -> str | None:
    """The tier that a provider's words amount to, in lower case; None for standard processing.

    Several words that are not standard make one tier, such as ``"batch+us"``: what they cost together does not follow
    from what each of them costs.
    """
    special = [word.lower() for word in words if word and word.lower() not in _STANDARD]
    return "+".join(special) or None
