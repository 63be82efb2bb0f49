"""Options that several commands have, each with the same name, meaning and place in the help everywhere.

Help has to be there at once, so nothing of the library is imported here before a command runs.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lm_deluge.cli.values import parse_duration

MODEL = "Model"
LOCAL = "Local cache"
CACHING = "Provider's prompt cache"
LIMITS = "Limits and retries"


def option(metavar: str | None, help: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """An option with a value. It is called like its parameter, unless names are given."""
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **more)


def flag(name: str, help: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """An option that is given or not. Help has no type to show for it."""
    return option("", help, name, *names, panel=panel, **more)


def argument(metavar: str, help: str, **more: Any) -> Any:
    """An argument. Help shows no default for it."""
    return typer.Argument(metavar=metavar, help=help, show_default=False, **more)


AsJson = Annotated[bool, flag("--json", "JSON on standard output, for programs.")]

# Prompts

Field = Annotated[str | None, option("NAME", "The field that holds the prompt.")]
Limit = Annotated[int | None, option("N", "Read the first N rows only.", min=1)]
Samples = Annotated[
    int | None,
    option("N", "Independent answers for each prompt, numbered from 0 in the results. 8 after 5 buys 3 more.", min=1),
]
System = Annotated[str | None, option("TEXT", "System message for prompts that have none.", panel=MODEL)]
Tools = Annotated[Path | None, option("FILE", "JSON file with a list of tools.", panel=MODEL)]

# The model and how it samples

Temperature = Annotated[float | None, option("NUMBER", "0 to 2.", panel=MODEL)]
TopP = Annotated[float | None, option("NUMBER", "Above 0, up to 1.", panel=MODEL)]
MaxNewTokens = Annotated[int | None, option("N", "Most tokens of an answer.", panel=MODEL)]
JsonMode = Annotated[bool, flag("--json-mode", "Ask for JSON.", panel=MODEL)]
ReasoningEffort = Annotated[
    str | None, option("EFFORT", "none, minimal, low, medium, high, xhigh or max.", panel=MODEL)
]
BaseUrl = Annotated[str | None, option("URL", "Server to ask instead of the provider's.", panel=MODEL)]

# The local cache

Cache = Annotated[
    str | None,
    option(
        "STORE",
        "Local cache: no answer in it is paid for again. An SQLite file, a LevelDB directory, or a redis:// URL; "
        "the password may be in LM_DELUGE_REDIS_PASSWORD.",
        panel=LOCAL,
    ),
]
CacheKey = Annotated[str | None, option("NAME", "Namespace within it, to keep answers apart.", panel=LOCAL)]
Scope = Annotated[
    Literal["conversation", "request"] | None,
    option(
        "SCOPE",
        "What a hit must have in common with the prompt: the model and all parameters too (request), or the "
        "conversation alone. The environment variable LM_DELUGE_CACHE_SCOPE sets the default.",
        panel=LOCAL,
        show_default="request",
    ),
]
MaxAge = Annotated[
    float | None,
    option("AGE", "Older answers count as misses: 90s, 15m, 12h, 7d, 2w.", panel=LOCAL, parser=parse_duration),
]
SingleFlight = Annotated[
    bool,
    flag("--single-flight", "Identical prompts share one call, among all programs that use the cache.", panel=LOCAL),
]

# The provider's prompt cache

PATTERN_NAMES = (
    "system_and_tools, tools_only, last_user_message, last_2_user_messages, last_3_user_messages, shared_prefix, "
    "conversation or automatic"
)
"""Those of ``lm_deluge.prompt_cache.PATTERNS``, written out: importing them would make help wait."""

CacheLifetime = Annotated[
    Literal["5m", "30m", "1h", "12h"] | None,
    option(
        "TIME",
        "How long the provider keeps it after each use: 5m, 30m, 1h or 12h, or else the lifetime it has.",
        panel=CACHING,
        show_default="the provider's",
    ),
]
CacheWarm = Annotated[
    Literal["always", "never", "prefill"] | None,
    option(
        "HOW",
        "Whether prompts wait until the first with the same prefix has written it: always or never. With prefill, "
        "a request without an answer writes it, if supported.",
        panel=CACHING,
        show_default="always",
    ),
]

# Limits

MaxConcurrentRequests = Annotated[int | None, option("N", "Calls in flight at once.", panel=LIMITS, show_default="225")]
MaxRequestsPerMinute = Annotated[int | None, option("N", "Calls per minute.", panel=LIMITS, show_default="1000")]
MaxTokensPerMinute = Annotated[int | None, option("N", "Tokens per minute.", panel=LIMITS, show_default="100000")]
