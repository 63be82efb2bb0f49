"""The commands of ``deluge cache``, in the order and the groups in which help shows them."""

import typer

from lm_deluge.cli.cache.change import delete, prune, verify
from lm_deluge.cli.cache.explain import explain
from lm_deluge.cli.cache.look import drift, list_entries, show, stats
from lm_deluge.cli.cache.move import export, import_file, rekey
from lm_deluge.cli.cache.reject import reject, restore

__all__ = ["cache_app"]

cache_app = typer.Typer(
    help="Look into a local cache, keep it in order, and move what is in it.\n\n"
    "STORE is an SQLite file, a LevelDB directory, or a redis:// URL. The password of a server goes to "
    "LM_DELUGE_REDIS_PASSWORD, or to a file that LM_DELUGE_REDIS_PASSWORD_FILE names: others see commands.\n\n"
    "Examples:\n"
    "  deluge cache stats my_cache.db\n"
    "  deluge cache list my_cache.db --model 'gpt-4.1*' --newer-than 7d\n"
    "  deluge cache explain my_cache.db --prompt 'What is 2+2?'\n"
    "  deluge cache prune my_cache.db --unused-for 90d --dry-run\n"
    "  deluge cache export my_cache.db answers.jsonl.gz",
    no_args_is_help=True,
)
_LOOK, _CLEAN, _MOVE = "Looking", "Keeping in order", "Moving"

cache_app.command(rich_help_panel=_LOOK)(stats)
cache_app.command("list", rich_help_panel=_LOOK)(list_entries)
cache_app.command(rich_help_panel=_LOOK)(show)
cache_app.command(rich_help_panel=_LOOK)(explain)
cache_app.command(rich_help_panel=_LOOK)(drift)
cache_app.command(rich_help_panel=_CLEAN)(verify)
cache_app.command(rich_help_panel=_CLEAN)(prune)
cache_app.command(rich_help_panel=_CLEAN)(delete)
cache_app.command(rich_help_panel=_CLEAN)(reject)
cache_app.command(rich_help_panel=_CLEAN)(restore)
cache_app.command(rich_help_panel=_MOVE)(export)
cache_app.command("import", rich_help_panel=_MOVE)(import_file)
cache_app.command(rich_help_panel=_MOVE)(rekey)
