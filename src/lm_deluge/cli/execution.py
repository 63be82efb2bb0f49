"""What ``deluge run`` does: what it checks before anything is sent, and what it says afterwards."""

import stat
import sys
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import msgspec

from lm_deluge._loops import run_here
from lm_deluge.cli.ask import Asker
from lm_deluge.cli.prompts import conversation_of
from lm_deluge.cli.report import print_reports
from lm_deluge.cli.results import Results
from lm_deluge.cli.settings import RunSettings
from lm_deluge.cli.signals import sigterm_as_ctrl_c
from lm_deluge.cli.stores import open_cache
from lm_deluge.cli.terminal import say, shown
from lm_deluge.errors import ConfigError
from lm_deluge.progress.summary import cache_failures, other_requests
from lm_deluge.text import counted

__all__ = ["execute"]


class _Survey(msgspec.Struct):
    """What a first reading of the prompts found, so that a mistake is known before anything is paid."""

    rows: int = 0
    wanted: int = 0  # answers
    missing: int = 0
    expected: int = 0  # responses, once all that is missing is asked


def execute(settings: RunSettings) -> int:
    """Carry out a run and return its exit code."""
    _check_files(settings)
    tools = settings.read_tools()
    with _open_cache(settings) as cache:
        asker = Asker(settings, tools, cache)
        with _open_results(settings) as results:
            try:
                code = _carry_out(settings, asker, results)
            finally:
                notices, misplaced = results.look()
                for notice in notices:
                    say(shown(notice))
            return code or int(misplaced)


def _carry_out(settings: RunSettings, asker: Asker, results: Results) -> int:
    survey = _survey(settings, results, asker)
    _say_what_is_there(settings, results, survey)
    if survey is not None and not survey.missing:
        say(_nothing_to_do(settings, survey))
        return 0
    with sigterm_as_ctrl_c() as terminated:
        try:
            run_here(lambda: asker.answer(results, None if survey is None else survey.expected))
        except KeyboardInterrupt:
            _print_account(settings, asker)
            say(_interrupted(settings, results.answered + asker.answered, survey))
            return 143 if terminated() else 130
    if not asker.rows:
        say(f"No prompts in {settings.source_name}.")
        return 0
    _print_account(settings, asker)
    if asker.errors:
        say(_first_error(settings, asker))
    return 1 if asker.errors else 0


def _check_files(settings: RunSettings) -> None:
    """Find what is missing or mixed up before an existing file is changed."""
    if settings.source is not None:
        if not settings.source.is_fifo():  # opening one and closing it again would end the program that writes to it
            settings.source.open("rb").close()
        if settings.out is not None and settings.out.exists() and settings.out.samefile(settings.source):
            raise ConfigError(f"{settings.out} holds the prompts; choose another file for --out.")
    if settings.overwrite and settings.out is None:
        raise ConfigError("--overwrite needs --out; standard output has nothing to overwrite.")


def _open_cache(settings: RunSettings) -> AbstractContextManager[Any]:
    return (
        nullcontext()
        if settings.cache is None
        else closing(open_cache(settings.cache, settings.cache_options, offline=settings.cache_mode == "offline"))
    )


def _open_results(settings: RunSettings) -> Results:
    if settings.out is None:
        return Results(sys.stdout.buffer, settings.fingerprint)
    return Results.open(settings.out, settings.fingerprint, overwrite=settings.overwrite)


def _survey(settings: RunSettings, results: Results, asker: Asker) -> _Survey | None:
    """Read the prompts through once, if they can be read twice."""
    if settings.source is None or not stat.S_ISREG(settings.source.stat().st_mode):
        return None
    survey = _Survey()
    for row in settings.rows():
        survey.rows += 1
        survey.wanted += settings.each
        missing = results.missing(row, settings.each)
        survey.missing += len(missing)
        if not isinstance(conversation_of(row), str):
            survey.expected += len(asker.shares(missing)) * asker.responses
    gone = results.rows_from(survey.rows)
    if gone and settings.limit is None:
        raise ConfigError(
            f"{settings.out} answers {counted(gone, 'row')} that {settings.source} no longer has. "
            "Choose another --out, or start from scratch with --overwrite."
        )
    return survey


# What is said


def _say_what_is_there(settings: RunSettings, results: Results, survey: _Survey | None) -> None:
    if results.dropped_torn:
        say(f"{settings.out}: the last line was torn when its run was killed; it is dropped and asked again.")
    if results.dropped_errors:
        say(f"{settings.out}: {counted(results.dropped_errors, _unit(settings))} with errors will be asked again.")
    if survey is not None and survey.missing and survey.missing < survey.wanted:
        there = f"{survey.wanted - survey.missing:,} of {counted(survey.wanted, _unit(settings))}"
        say(f"{settings.out}: {there} {'answered' if settings.samples is None else 'there'} already; continuing.")


def _nothing_to_do(settings: RunSettings, survey: _Survey) -> str:
    if not survey.rows:
        return f"No prompts in {settings.source_name}."
    each = "" if settings.samples is None else f" {counted(settings.samples, 'time')}"
    return f"Nothing to do: {counted(survey.rows, 'row')}, all answered{each}."


def _print_account(settings: RunSettings, asker: Asker) -> None:
    if asker.report is not None and settings.progress != "none":
        # Rows that could not be asked are results too, and the client has not seen them.
        whole = msgspec.structs.replace(
            asker.report, prompts=asker.report.prompts + asker.unusable, errors=asker.report.errors + asker.unusable
        )
        print_reports({"": whole})
        for sentence in (*other_requests(whole), *cache_failures(whole)):
            say(sentence)
        reasons = ", ".join(f"{number:,} {shown(reason)}" for reason, number in whole.cache_miss_reasons.items())
        if reasons:
            say(f"Why prompts were not read from the provider's cache, by its own account: {reasons}.")


def _first_error(settings: RunSettings, asker: Asker) -> str:
    unit = _unit(settings)
    again = " Run the same command again to retry." if settings.out else ""
    if settings.cache_mode == "offline":
        again = " Run without --offline to buy what is missing."
    errors = counted(asker.errors, f"{unit} has an error", f"{unit}s have errors")
    return f"{errors}.{again} The first: {shown(asker.first_error or '')}"


def _interrupted(settings: RunSettings, answered: int, survey: _Survey | None) -> str:
    of = "" if survey is None else f" of {survey.wanted:,}"
    if settings.out is None:
        return f"Interrupted: {answered:,}{of} answered. With --out FILE, a run can be continued."
    return f"Interrupted: {answered:,}{of} answered. Run the same command again to continue."


def _unit(settings: RunSettings) -> str:
    return "row" if settings.samples is None else "answer"
