"""Arguments that several commands for caches have, each with the same name and meaning everywhere."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from lm_deluge.cli.options import argument, flag, option
from lm_deluge.cli.values import parse_duration

if TYPE_CHECKING:
    from lm_deluge.cache.admin.filters import Filter

WHICH = "Which entries"

StorePlace = Annotated[str, argument("STORE", "An SQLite file, a LevelDB directory, or a redis:// URL.")]
KeyToChange = Annotated[str, argument("KEY", "The entry's key, or at least its first four digits.")]
Namespace = Annotated[
    str | None, option("NAME", "Those that were stored under this cache_key.", "--cache-key", panel=WHICH)
]
Model = Annotated[
    str | None,
    option(
        "MODEL",
        "The model that was asked or that answered; * and ? stand for other characters.",
        "--model",
        "-m",
        panel=WHICH,
    ),
]
OlderThan = Annotated[
    float | None,
    option("AGE", "Stored longer ago than this: 90s, 15m, 12h, 30d, 2w.", panel=WHICH, parser=parse_duration),
]
NewerThan = Annotated[float | None, option("AGE", "Stored within this time.", panel=WHICH, parser=parse_duration)]
RunName = Annotated[str | None, option("RUN", "Bought by the run of this name or id.", "--run", panel=WHICH)]
Tag = Annotated[str | None, option("TAG", "Bought by a run with this tag.", panel=WHICH)]
Yes = Annotated[bool, flag("--yes", "Do it without asking.", "-y")]

_FEWEST_DIGITS = 4


def changeable(key: str) -> str:
    """The beginning of a key that is long enough for a command that changes something."""
    if len(key.strip().removesuffix("…").partition("-")[0]) < _FEWEST_DIGITS:
        from lm_deluge.errors import ConfigError

        raise ConfigError(f"{key!r} is too short to change something: give at least {_FEWEST_DIGITS} digits of a key.")
    return key


def make_filter(options: Mapping[str, Any]) -> "Filter":
    """The filter that a command was given, by the names of its parameters. Ages are seconds before now."""
    from lm_deluge.cache.admin.filters import Filter

    now = time.time()
    older_than, newer_than = options.get("older_than"), options.get("newer_than")
    return Filter(
        namespace=options.get("cache_key"),
        model=options.get("model"),
        older_than=None if older_than is None else now - older_than,
        newer_than=None if newer_than is None else now - newer_than,
        run=options.get("run"),
        tag=options.get("tag"),
        key=options.get("key", ""),
    )
