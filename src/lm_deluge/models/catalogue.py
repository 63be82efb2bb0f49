"""Names: the ids we know, the spellings people use for them, and when the provider switches them off.

Known ids serve for close matches in an error and for ``Model.known``. Nothing is refused for being absent: a model
released tomorrow goes out under the name it was given.
"""

import re
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

__all__ = ["CATALOGUE", "RETIREMENTS", "canonical_claude", "undated"]

# OpenAI, models page
_OPENAI = """
chatgpt-4o-latest gpt-3.5-turbo
gpt-4 gpt-4-turbo gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-4o gpt-4o-mini
gpt-5 gpt-5-chat-latest gpt-5-mini gpt-5-nano gpt-5-pro gpt-5.1 gpt-5.2 gpt-5.2-pro gpt-5.3-chat-latest
gpt-5.4 gpt-5.4-mini gpt-5.4-nano gpt-5.4-pro gpt-5.5 gpt-5.5-pro gpt-5.6-luna gpt-5.6-sol gpt-5.6-terra
gpt-6-astra gpt-6-luna gpt-6-sol gpt-6.1-sol gpt-6.1-terra gpt-6.2-astra gpt-6.2-sol
o1 o1-mini o1-preview o1-pro o3 o3-mini o3-pro o4-mini
"""

# Anthropic, models overview
_ANTHROPIC = """
claude-3-haiku claude-3-opus claude-3-sonnet claude-3-5-haiku claude-3-5-haiku-latest
claude-3-5-sonnet claude-3-5-sonnet-latest claude-3-7-sonnet claude-3-7-sonnet-latest
claude-opus-4 claude-opus-4-0 claude-opus-4-1 claude-opus-4-5 claude-opus-4-6 claude-opus-4-7 claude-opus-4-8
claude-opus-5 claude-opus-5-5
claude-sonnet-4 claude-sonnet-4-0 claude-sonnet-4-5 claude-sonnet-4-6 claude-sonnet-5 claude-sonnet-5-5
claude-haiku-4-5 claude-haiku-5-5
claude-fable-5 claude-fable-5-1 claude-fable-5-2
claude-mythos-5 claude-mythos-5-1 claude-mythos-5-2 claude-mythos-preview
"""

CATALOGUE = tuple(f"{_OPENAI}{_ANTHROPIC}".split())

# Up to Claude 4 the API takes only dated ids; from 4.1 on a dateless id is an id (Anthropic, model ids and versions).
_CLAUDE_SNAPSHOTS = {
    "claude-3-haiku": "claude-3-haiku-20240307",
    "claude-3-opus": "claude-3-opus-20240229",
    "claude-3-sonnet": "claude-3-sonnet-20240229",
    "claude-3-5-haiku": "claude-3-5-haiku-20241022",
    "claude-3-5-sonnet": "claude-3-5-sonnet-20241022",
    "claude-3-7-sonnet": "claude-3-7-sonnet-20250219",
    "claude-opus-4": "claude-opus-4-20250514",
    "claude-sonnet-4": "claude-sonnet-4-20250514",
}

_BEFORE_3 = re.compile(r"claude-([12](?!\d)|instant)")  # "claude-2.1" is an id, dot and all
_VERSION_FIRST = re.compile(r"claude-(?!3-)(?P<version>\d+(?:-\d)?)-(?P<tier>[a-z]+)(?P<rest>-.*)?$")
_TIER_FIRST_3 = re.compile(r"claude-(?P<tier>haiku|opus|sonnet)-(?P<version>3(?:-\d)?)(?P<rest>-.*)?$")


def canonical_claude(name: str) -> str:
    """The id Anthropic uses for a ``claude-*`` name as people write it.

    Dots become dashes (``claude-3.5-sonnet``), version and tier take the order of their generation (Claude 3 has the
    version first, later ones the tier), and the dateless names of Claude 3 and 4 get their last snapshot's date.
    Any other name comes back as it is.
    """
    if _BEFORE_3.match(name):
        return name
    dashed = name.replace(".", "-")
    if match := _VERSION_FIRST.match(dashed):
        dashed = f"claude-{match['tier']}-{match['version']}{match['rest'] or ''}"
    elif match := _TIER_FIRST_3.match(dashed):
        dashed = f"claude-{match['version']}-{match['tier']}{match['rest'] or ''}"
    return _CLAUDE_SNAPSHOTS.get(dashed, dashed)


def undated(model_id: str) -> str:
    """``model_id`` without the date of a snapshot: ``gpt-4.1-2025-04-14`` and ``claude-opus-4-5-20251101``."""
    return re.sub(r"-20\d\d-?[01]\d-?[0-3]\d$", "", model_id)


# OpenAI, deprecations page, and Anthropic, model deprecations page. A snapshot that is not listed shares the date of
# its dateless id.
_RETIRED_ON = {
    date(2025, 7, 21): ("claude-3-sonnet",),
    date(2025, 7, 28): ("o1-preview",),
    date(2025, 10, 27): ("o1-mini",),
    date(2026, 1, 5): ("claude-3-opus",),
    date(2026, 2, 17): ("chatgpt-4o-latest",),
    date(2026, 2, 19): ("claude-3-5-haiku", "claude-3-5-haiku-latest", "claude-3-7-sonnet", "claude-3-7-sonnet-latest"),
    date(2026, 6, 15): ("claude-opus-4", "claude-opus-4-0", "claude-sonnet-4", "claude-sonnet-4-0"),
    date(2026, 6, 30): ("claude-mythos-preview",),
    date(2026, 7, 23): ("gpt-5-chat-latest", "gpt-5.1-chat-latest", "gpt-5.1-codex"),
    date(2026, 8, 10): ("gpt-5.2-chat-latest", "gpt-5.3-chat-latest"),
    date(2026, 10, 23): (
        "gpt-3.5-turbo",
        "gpt-4",
        "gpt-4-turbo",
        "gpt-4.1-nano",
        "gpt-4o-2024-05-13",
        "o1",
        "o3-mini",
        "o4-mini",
    ),
    date(2026, 11, 30): ("claude-sonnet-4-5",),
    date(2026, 12, 11): ("gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"),
    date(2027, 1, 14): ("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"),
    date(2027, 4, 1): ("gpt-5.1", "gpt-5.4-nano"),
}

RETIREMENTS: Mapping[str, date] = MappingProxyType({name: day for day, names in _RETIRED_ON.items() for name in names})
"""The day on which the provider stops, or stopped, serving a model."""
