"""The commands and their help."""

from typing import Annotated

import typer

from lm_deluge._version import __version__
from lm_deluge.cli.cache import cache_app
from lm_deluge.cli.demo import demo
from lm_deluge.cli.emulate import emulate
from lm_deluge.cli.options import flag
from lm_deluge.cli.run import run
from lm_deluge.cli.simulate import simulate

__all__ = ["app"]

app = typer.Typer(
    help="Run thousands to millions of prompts through LLM APIs, with caching you can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(simulate)
app.command()(emulate)
app.command()(demo)
app.add_typer(cache_app, name="cache")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lm_deluge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, flag("--version", "Show the version.", callback=_show_version, is_eager=True)] = False,
) -> None:
    pass
