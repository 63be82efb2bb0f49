"""The library's messages, as users of the command line need them: arguments become options.

``Raise max_tokens_per_minute=100,000`` is no help to somebody who types ``--max-tokens-per-minute 100000``.
"""

import re

__all__ = ["in_options"]

_OPTIONS = (
    "admit",
    "base_url",
    "cache",
    "cache_key",
    "cache_lifetime",
    "cache_mode",
    "cache_pattern",
    "json_mode",
    "max_age",
    "max_attempts",
    "max_bytes",
    "max_concurrent_requests",
    "max_new_tokens",
    "max_requests_per_minute",
    "max_tokens_per_minute",
    "progress",
    "reasoning_effort",
    "request_timeout",
    "samples",
    "scope",
    "single_flight",
    "temperature",
    "tools",
    "top_p",
    "ttl",
)
"""Arguments that are options under the same name."""

_PHRASES = (
    (", or pass api_key= to LLMClient", ""),
    (" or api_key=", ""),
    ("pass the credential as api_key= instead", "put the credential into its environment variable instead"),
    ("A local cache object goes to LLMClient(cache=...).", "The local cache goes to --cache."),
    ("give the cache scope=", "give scope="),
    ("so unused_for cannot tell", "so --unused-for cannot tell"),
    ("Use older_than:", "Use --older-than:"),
    ("No entry in service has a key", "No entry has a key"),
    ("with rebuild()", "with `deluge cache verify --rebuild`"),
    ("the client has no cache. Give it cache=", "there is no cache. Give it with --cache"),
    ("client.estimate(prompts)", "deluge simulate"),
    ("further failures are counted in report.cache_failures", "further failures are counted"),
)
"""What has no option of its own name, or would read badly."""

# On the client, ``cache`` is the local cache; in a call, it is a pattern of the provider's.
_PATTERN = re.compile(r"\bcache=(?='\w)")

# What is said of the provider's prompt cache is about a call. A mark in a prompt is JSON, and has its own lifetime.
_PROMPT_CACHE = (
    (re.compile(r"(?<=one )ttl='(\w+)'"), r'"ttl": "\1"'),
    (re.compile(r"\bttl="), "cache_lifetime="),
    (re.compile(r"\bcache="), "cache_pattern="),
)
_ARGUMENT = re.compile(
    rf"""\b({"|".join(_OPTIONS)})=          # the argument
    (?: '([^']*)' | "([^"]*)" | (True\b) | (-?\d+(?:,\d{{3}})*(?:\.\d+)?(?:e-?\d+)?) )?""",
    re.VERBOSE,
)


def in_options(message: str, *, prompt_cache: bool = False) -> str:
    """A message with the options of ``deluge run`` in the place of the client's arguments.

    Args:
        message: the library's.
        prompt_cache: whether it is about the provider's prompt cache; ``cache=`` is a pattern of that, then.
    """
    for phrase, replacement in _PHRASES:
        message = message.replace(phrase, replacement)
    for argument, option in _PROMPT_CACHE if prompt_cache else ():
        message = argument.sub(option, message)
    message = _PATTERN.sub("cache_pattern=", message)
    return _ARGUMENT.sub(_option, message)


def _option(found: "re.Match[str]") -> str:
    name, quoted, double_quoted, _, number = found.groups()
    value = quoted or double_quoted or (number or "").replace(",", "")
    return f"--{name.replace('_', '-')}{' ' if value else ''}{value}"
