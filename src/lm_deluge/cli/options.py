"""Options that several commands have, each with the same name, meaning and place in the help everywhere.

Help has to be there at once, so nothing of the library is imported here before a command runs.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lm_deluge.cli.values import parse_duration

__all__ = [
    "CACHING",
    "LIMITS",
    "LOCAL",
    "MODEL",
    "PATTERN_NAMES",
    "AsJson",
    "BaseUrl",
    "Cache",
    "CacheKey",
    "CacheLifetime",
    "CacheWarm",
    "Field",
    "JsonMode",
    "Limit",
    "MaxAge",
    "MaxConcurrentRequests",
    "MaxNewTokens",
    "MaxRequestsPerMinute",
    "MaxTokensPerMinute",
    "ReasoningEffort",
    "Samples",
    "Scope",
    "SingleFlight",
    "System",
    "Temperature",
    "Tools",
    "TopP",
    "flag",
]

MODEL = "Model"
LOCAL = "Local cache"
CACHING = "Provider's prompt cache"
LIMITS = "Limits and retries"


def flag(*names: str, **options: Any) -> Any:
    """An option that is given or not. Help has no type to show for it."""
    return typer.Option(*names, metavar="", **options)


AsJson = Annotated[bool, flag("--json", help="JSON on standard output, for programs.")]

# Prompts

Field = Annotated[str | None, typer.Option(help="The field that holds the prompt.", metavar="NAME", show_default=False)]
Limit = Annotated[int | None, typer.Option(help="Read the first N rows only.", min=1, metavar="N")]
Samples = Annotated[
    int | None,
    typer.Option(
        help="Independent answers for each prompt, numbered from 0 in the results. 8 after 5 buys 3 more.",
        min=1,
        metavar="N",
    ),
]
System = Annotated[
    str | None, typer.Option(help="System message for prompts that have none.", rich_help_panel=MODEL, metavar="TEXT")
]
Tools = Annotated[
    Path | None, typer.Option(help="JSON file with a list of tools.", rich_help_panel=MODEL, metavar="FILE")
]

# The model and how it samples

Temperature = Annotated[float | None, typer.Option(help="0 to 2.", rich_help_panel=MODEL, metavar="NUMBER")]
TopP = Annotated[float | None, typer.Option(help="Above 0, up to 1.", rich_help_panel=MODEL, metavar="NUMBER")]
MaxNewTokens = Annotated[int | None, typer.Option(help="Most tokens of an answer.", rich_help_panel=MODEL, metavar="N")]
JsonMode = Annotated[bool, flag("--json-mode", help="Ask for JSON.", rich_help_panel=MODEL)]
ReasoningEffort = Annotated[
    str | None,
    typer.Option(help="none, minimal, low, medium, high, xhigh or max.", rich_help_panel=MODEL, metavar="EFFORT"),
]
BaseUrl = Annotated[
    str | None, typer.Option(help="Server to ask instead of the provider's.", rich_help_panel=MODEL, metavar="URL")
]

# The local cache

Cache = Annotated[
    str | None,
    typer.Option(
        help="Local cache: no answer in it is paid for again. An SQLite file, a LevelDB directory, or a redis:// URL; "
        "the password may be in LM_DELUGE_REDIS_PASSWORD.",
        rich_help_panel=LOCAL,
        metavar="STORE",
    ),
]
CacheKey = Annotated[
    str | None,
    typer.Option(help="Namespace within it, to keep answers apart.", rich_help_panel=LOCAL, metavar="NAME"),
]
Scope = Annotated[
    Literal["conversation", "request"] | None,
    typer.Option(
        help="What a hit must have in common with the prompt: the model and all parameters too (request), or the "
        "conversation alone. The environment variable LM_DELUGE_CACHE_SCOPE sets the default.",
        rich_help_panel=LOCAL,
        metavar="SCOPE",
        show_default="request",
    ),
]
MaxAge = Annotated[
    float | None,
    typer.Option(
        help="Older answers count as misses: 90s, 15m, 12h, 7d, 2w.",
        parser=parse_duration,
        metavar="AGE",
        rich_help_panel=LOCAL,
        show_default=False,
    ),
]
SingleFlight = Annotated[
    bool,
    flag(
        "--single-flight",
        help="Identical prompts share one call, among all programs that use the cache.",
        rich_help_panel=LOCAL,
    ),
]

# The provider's prompt cache

PATTERN_NAMES = (
    "system_and_tools, tools_only, last_user_message, last_2_user_messages, last_3_user_messages, shared_prefix, "
    "conversation or automatic"
)
"""Those of ``lm_deluge.prompt_cache.PATTERNS``, written out: importing them would make help wait."""

CacheLifetime = Annotated[
    Literal["5m", "30m", "1h", "12h"] | None,
    typer.Option(
        help="How long the provider keeps it after each use: 5m, 30m, 1h or 12h, or else the lifetime it has.",
        rich_help_panel=CACHING,
        metavar="TIME",
        show_default="the provider's",
    ),
]
CacheWarm = Annotated[
    Literal["always", "never", "prefill"] | None,
    typer.Option(
        help="Whether prompts wait until the first with the same prefix has written it: always or never. With prefill, "
        "a request without an answer writes it, if supported.",
        rich_help_panel=CACHING,
        metavar="HOW",
        show_default="always",
    ),
]

# Limits

MaxConcurrentRequests = Annotated[
    int | None, typer.Option(help="Calls in flight at once.", rich_help_panel=LIMITS, metavar="N", show_default="225")
]
MaxRequestsPerMinute = Annotated[
    int | None,
    typer.Option(help="Calls per minute.", rich_help_panel=LIMITS, metavar="N", show_default="1000"),
]
MaxTokensPerMinute = Annotated[
    int | None, typer.Option(help="Tokens per minute.", rich_help_panel=LIMITS, metavar="N", show_default="100000")
]
