"""What differs between OpenAI models, as far as requests are accepted. Unknown names get the permissive answer."""

import re

__all__ = ["Version", "has_explicit_caching", "is_classic", "is_reasoning", "takes_sampling"]

Version = tuple[int, int]

_O_SERIES = re.compile(r"^o\d")
_GPT = re.compile(r"^gpt-(\d+)(?:\.(\d+))?")
_CLASSIC = re.compile(r"^(?:gpt-(?:3\.5|4)|chatgpt-4o)")


def _base(model: str) -> str:
    """The base model of a fine-tuned one: ``ft:gpt-4o:org::id`` -> ``gpt-4o``."""
    return model.split(":")[1] if model.startswith("ft:") else model


def _version(model: str) -> Version | None:
    found = _GPT.match(_base(model))
    return (int(found[1]), int(found[2] or 0)) if found else None


def is_reasoning(model: str) -> bool:
    """The o-series, and GPT-5 and later except its chat variants."""
    version = _version(model)
    return bool(_O_SERIES.match(_base(model))) or (version is not None and version >= (5, 0) and "-chat" not in model)


def takes_sampling(model: str, effort: str | None) -> bool:
    """Whether ``temperature`` and its like are taken. Models that reason take them with reasoning turned off.

    From GPT-5.1 on the effort ``none`` does that, and up to GPT-5.4 it is the default (OpenAI, reasoning guide).
    """
    version = _version(model)
    if not is_reasoning(model):
        return True
    if version is None or version < (5, 1):
        return False
    return effort == "none" or (effort is None and version <= (5, 4) and not re.search(r"-(pro|codex)", model))


def is_classic(model: str) -> bool:
    """Models known not to reason: GPT-3.5 and the GPT-4 family."""
    return bool(_CLASSIC.match(_base(model)))


def has_explicit_caching(model: str) -> bool:
    """GPT-5.6 and later: cache breakpoints and ``prompt_cache_options``."""
    version = _version(model)
    return version is not None and version >= (5, 6)
