"""Arguments that several commands for caches have, each with the same name and meaning everywhere."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from lm_deluge.cli.options import AsJson, flag
from lm_deluge.cli.values import parse_duration

if TYPE_CHECKING:
    from lm_deluge.cache.admin.filters import Filter

__all__ = [
    "AsJson",
    "Model",
    "Namespace",
    "NewerThan",
    "OlderThan",
    "RunName",
    "StorePlace",
    "Tag",
    "Yes",
    "changeable",
    "make_filter",
]

_FILTERS = "Which entries"

StorePlace = Annotated[
    str,
    typer.Argument(metavar="STORE", help="An SQLite file, a LevelDB directory, or a redis:// URL.", show_default=False),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--cache-key",
        help="Those that were stored under this cache_key.",
        metavar="NAME",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The model that was asked or that answered; * and ? stand for other characters.",
        metavar="MODEL",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
OlderThan = Annotated[
    float | None,
    typer.Option(
        help="Stored longer ago than this: 90s, 15m, 12h, 30d, 2w.",
        parser=parse_duration,
        metavar="AGE",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
NewerThan = Annotated[
    float | None,
    typer.Option(
        help="Stored within this time.",
        parser=parse_duration,
        metavar="AGE",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Bought by the run of this name or id.",
        metavar="RUN",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
Tag = Annotated[
    str | None,
    typer.Option(help="Bought by a run with this tag.", metavar="TAG", rich_help_panel=_FILTERS, show_default=False),
]
Yes = Annotated[bool, flag("--yes", "-y", help="Do it without asking.")]

_FEWEST_DIGITS = 4


def changeable(key: str) -> str:
    """The beginning of a key that is long enough for a command that changes something.

    Raises:
        ConfigError: it is not.
    """
    if len(key.strip().removesuffix("…")) < _FEWEST_DIGITS:
        from lm_deluge.errors import ConfigError

        raise ConfigError(f"{key!r} is too short to change something: give at least {_FEWEST_DIGITS} digits of a key.")
    return key


def make_filter(
    *,
    namespace: str | None = None,
    model: str | None = None,
    older_than: float | None = None,
    newer_than: float | None = None,
    run: str | None = None,
    tag: str | None = None,
    key: str = "",
) -> "Filter":
    """A filter from these options; ages are seconds before now.

    Raises:
        ConfigError: the ages leave nothing, or the key is none.
    """
    from lm_deluge.cache.admin.filters import Filter

    now = time.time()
    return Filter(
        namespace=namespace,
        model=model,
        older_than=None if older_than is None else now - older_than,
        newer_than=None if newer_than is None else now - newer_than,
        run=run,
        tag=tag,
        key=key,
    )
