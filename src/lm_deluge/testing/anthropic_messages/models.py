"""What differs between Anthropic models, as far as requests are accepted, thinking starts, or prompts are cached.

From Anthropic's model pages, prompt caching guide and API versioning page as of November 2026. An unknown model name
gets the most permissive answer to every question and the usual cache minimum.
"""

import re

__all__ = [
    "binds_thinking",
    "minimum_cached_tokens",
    "omits_thinking",
    "rejects_forced_tools",
    "rejects_prefill",
    "rejects_sampling",
    "rejects_thinking",
    "thinks_by_default",
]

_DATE = re.compile(r"-\d{8}$")

_FABLE_MYTHOS = frozenset({"fable-5", "fable-5-1", "fable-5-2", "mythos-5", "mythos-5-1", "mythos-5-2"})
_FIFTH = _FABLE_MYTHOS | {"opus-5", "opus-5-5", "sonnet-5", "sonnet-5-5", "haiku-5-5"}
_ADAPTIVE_ONLY = _FIFTH | {"opus-4-7", "opus-4-8"}
_NO_PREFILL = _ADAPTIVE_ONLY | {"opus-4-6", "sonnet-4-6"}
_NO_FORCED_TOOLS = frozenset({"fable-5-1", "fable-5-2", "mythos-5-1", "mythos-5-2", "opus-5-5", "sonnet-5-5"})
_BOUND_THINKING = frozenset({"fable-5-1", "fable-5-2", "mythos-5-2", "opus-5-5", "sonnet-5-5", "haiku-5-5"})
_NO_ADAPTIVE = frozenset({"haiku-4-5", "sonnet-4-5", "opus-4-5"})
_NO_BETWEEN_TOOLS = _FABLE_MYTHOS | {"opus-5-5"}
_NO_DISABLED = _NO_BETWEEN_TOOLS | {"sonnet-5-5"}
_MINIMUM = {
    **dict.fromkeys(_FIFTH - {"sonnet-5"}, 512),
    "opus-4-7": 2_048,
    "opus-4-6": 4_096,
    "opus-4-5": 4_096,
    "haiku-4-5": 4_096,
}
_USUAL_MINIMUM = 1_024


def _short(model: str) -> str:
    return _DATE.sub("", model.removeprefix("claude-"))


def minimum_cached_tokens(model: str) -> int:
    """The shortest prefix, in tokens, that the model caches."""
    return _MINIMUM.get(_short(model), _USUAL_MINIMUM)


def rejects_sampling(model: str) -> bool:
    """Whether non-default temperature, top_p or top_k give 400 with any API version."""
    return _short(model) in _ADAPTIVE_ONLY


def rejects_prefill(model: str) -> bool:
    """Whether a conversation may not end with an assistant turn."""
    return _short(model) in _NO_PREFILL


def rejects_forced_tools(model: str) -> bool:
    """Whether ``tool_choice`` ``any`` and ``tool`` give 400."""
    return _short(model) in _NO_FORCED_TOOLS


def rejects_thinking(model: str, kind: str) -> bool:
    """Whether a ``thinking.type`` gives 400."""
    name = _short(model)
    match kind:
        case "enabled":
            return name in _ADAPTIVE_ONLY
        case "adaptive":
            return name in _NO_ADAPTIVE
        case "disabled":
            return name in _NO_DISABLED
        case _:
            return name in _NO_BETWEEN_TOOLS


def thinks_by_default(model: str) -> bool:
    """Whether thinking is on when the request does not mention it."""
    return _short(model) in _FIFTH


def omits_thinking(model: str) -> bool:
    """Whether a thought's text is left out of its block when the request does not ask for it."""
    return _short(model) in _ADAPTIVE_ONLY


def binds_thinking(model: str) -> bool:
    """Whether a thinking block is only valid behind the prefix that produced it."""
    return _short(model) in _BOUND_THINKING
