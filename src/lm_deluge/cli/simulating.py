"""What ``deluge simulate`` does: rows to an estimate, and that to a table with its caveats, or to JSON."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from lm_deluge import LLMClient
from lm_deluge.cli.printing import Column, make_console, plain, print_json, print_table, say
from lm_deluge.cli.prompts import conversation_of, read_tools
from lm_deluge.cli.rows import read_rows
from lm_deluge.cli.stores import open_cache_to_read
from lm_deluge.cli.terminal import shown
from lm_deluge.progress.text import count, money
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import Estimate, PromptCache
from lm_deluge.prompt_cache.estimate import Bill, Forecast

__all__ = ["Simulation", "carry_out"]

_NOTHING = "–"
_PRICES = "genai-prices"
_WORTH_TELLING = 0.005  # of a bill; less than that is below what can be known


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """A ``deluge simulate``, as it was asked for.

    Attributes:
        source: the prompts; None for standard input.
        field: the field that holds the prompt.
        limit: the most rows to read.
        system: a system message for prompts that have none.
        tools: a file of tools.
        output_tokens: tokens of an answer; None to leave answers out.
        patterns: the ways of caching to compare with none at all.
        cache: the local cache: a path or a URL.
        store: arguments of that cache; those that were not given are absent.
        client: arguments of ``LLMClient``, in the same way.
        call: arguments of ``LLMClient.estimate``, in the same way.
        as_json: one object of JSON.
    """

    source: Path | None
    field: str | None = None
    limit: int | None = None
    system: str | None = None
    tools: Path | None = None
    output_tokens: int | None = None
    patterns: Sequence[PromptCache] = ()
    cache: str | None = None
    store: Mapping[str, Any] = {}
    client: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}
    as_json: bool = False


def carry_out(asked: Simulation) -> None:
    """Print the bills.

    Raises:
        ConfigError, CacheError, OSError: it cannot be done as asked.
    """
    tools = [] if asked.tools is None else read_tools(asked.tools)
    local = None if asked.cache is None else open_cache_to_read(asked.cache, asked.store)
    if local is None and asked.cache is not None:
        say("The local cache is not there yet, so nothing is answered from it.")
    problems: list[str] = []
    with nullcontext() if local is None else closing(local), LLMClient(**asked.client, cache=local) as client:
        estimate = client.estimate(
            _prompts(asked, problems),
            patterns=asked.patterns,
            output_tokens=asked.output_tokens,
            tools=tools,
            **asked.call,
        )
    if problems:
        rows = len(problems) * asked.call.get("samples", 1)
        estimate = msgspec.structs.replace(
            estimate,
            prompts=estimate.prompts + rows,
            unusable=estimate.unusable + rows,
            problem=problems[0],
        )
    if asked.as_json:
        print_json(_as_data(estimate))
    elif not estimate.prompts:
        say(f"No prompts in {'standard input' if asked.source is None else asked.source}.")
    else:
        _print(estimate, shares_calls="single_flight" in asked.client)
    if estimate.unusable:
        cannot = count(estimate.unusable, "prompt cannot be asked and is", "prompts cannot be asked and are")
        say(f"{cannot} left out{'. One of them' if estimate.unusable > 1 else ''}: {estimate.problem}")


def _prompts(asked: Simulation, problems: list[str]) -> Iterator[Conversation]:
    """Prompts that can be asked. What is wrong with the other rows is added to the problems."""
    system = None if asked.system is None else Conversation.system(asked.system)
    for row in read_rows(asked.source, field=asked.field, limit=asked.limit):
        found = conversation_of(row, system)
        if isinstance(found, str):
            problems.append(found)
        else:
            yield found


# For people


def _print(estimate: Estimate, *, shares_calls: bool) -> None:
    console = make_console()
    asked = estimate.prompts - estimate.hits - estimate.unusable
    by = "the local cache or by another's call" if shares_calls else "the local cache"
    if not asked:
        if estimate.hits:
            console.print(f"Nothing to pay: {count(estimate.hits, 'prompt')}, answered by {by}.")
        return
    hits = f"; {count(estimate.hits, 'more is', 'more are')} answered by {by}" if estimate.hits else ""
    console.print(f"{count(asked, 'prompt')} to {shown(estimate.model)}{hits}.")
    none, best = estimate[None], estimate.best
    is_priced = none.cold.cost is not None
    columns = _priced(estimate) if is_priced else _unpriced(estimate)
    print_table(console, columns, bold=estimate.forecasts.index(best))
    console.print(_verdict(best, none))
    console.print()
    for note in _notes(estimate, is_priced=is_priced):
        console.print(note, style="dim")


def _priced(estimate: Estimate) -> list[Column]:
    forecasts = estimate.forecasts
    return [
        _names(forecasts),
        Column(name="cold", cells=[_dollars(each.cold) for each in forecasts], right=True),
        _changes(estimate),
        Column(name="warm", cells=[_dollars(each.warm) for each in forecasts], right=True),
        *_counts(forecasts),
    ]


def _unpriced(estimate: Estimate) -> list[Column]:
    usages = [each.cold.usage for each in estimate.forecasts]
    return [
        _names(estimate.forecasts),
        _changes(estimate),
        _numbers("input", [usage.input_tokens for usage in usages]),
        _numbers("written", [usage.cache_write_tokens for usage in usages]),
        _numbers("read", [usage.cache_read_tokens for usage in usages]),
        *_counts(estimate.forecasts),
    ]


def _names(forecasts: Sequence[Forecast]) -> Column:
    return Column(name="pattern", cells=[each.pattern or "none" for each in forecasts])


def _changes(estimate: Estimate) -> Column:
    none = estimate[None].cold
    changes = [each.cold.weight / none.weight - 1 if none.weight else 0.0 for each in estimate.forecasts]
    cells = [f"{change:+.1%}" if abs(change) >= 0.0005 else _NOTHING for change in changes]
    return Column(name="vs none", cells=cells, right=True)


def _counts(forecasts: Sequence[Forecast]) -> list[Column]:
    shares = [f"{each.cold.hit_ratio:.1%}" if each.cold.reads else _NOTHING for each in forecasts]
    return [
        _numbers("writes", [each.cold.writes for each in forecasts]),
        _numbers("reads", [each.cold.reads for each in forecasts], rank=1),
        Column(name="read share", cells=shares, right=True),
    ]


def _numbers(name: str, values: Sequence[int], *, rank: int = 0) -> Column:
    return Column(name=name, cells=[f"{value:,}" if value else _NOTHING for value in values], right=True, rank=rank)


def _dollars(bill: Bill) -> str:
    return _NOTHING if bill.cost is None else money(bill.cost)


def _verdict(best: Forecast, none: Forecast) -> str:
    if best.pattern is None:
        return "Best: none. No pattern makes it cheaper."
    share = 1 - best.cold.weight / none.cold.weight
    if best.cold.cost is None or none.cold.cost is None:
        return f"Best: {best.pattern} saves about {share:.1%} of what the prompts cost."
    saved = f"Best: {best.pattern} saves {money(none.cold.cost - best.cold.cost)} ({share:.1%})"
    again = f"; the same again, while it is warm, costs {_dollars(best.warm)}."
    if best.unwarmed is None or best.unwarmed.weight < best.cold.weight * (1 + _WORTH_TELLING):
        return saved + again
    return f"{saved}{again} With --cache-warm never it would cost {_dollars(best.unwarmed)}."


def _notes(estimate: Estimate, *, is_priced: bool) -> Iterator[str]:
    again = "; warm: the same prompts once more, right after" if is_priced else ""
    yield f"cold: the provider's cache holds nothing of them yet{again}. Writes, reads and read share are cold."
    yield "Requests start as the limits allow, and an answer begins five seconds after its request."
    answers = (
        "Answers are not in the bill; --output-tokens N adds them."
        if estimate.output_tokens is None
        else f"Each answer counts {count(estimate.output_tokens, 'token')}."
    )
    yield f"Tokens are estimated: four bytes of text count as one, an image as 1,600. {answers}"
    if is_priced:
        yield f"List prices of {_PRICES} {version(_PRICES)}."
    else:
        yield (
            f"No price is known for {shown(estimate.model)}, so the usual multiples are compared: what is read counts "
            "a tenth of other input, what is written a quarter more."
        )


# For programs


def _as_data(estimate: Estimate) -> dict[str, Any]:
    """All of it, with the best pattern; null stands for none."""
    is_priced = estimate[None].cold.cost is not None
    return {
        **plain(estimate),
        "best": estimate.best.pattern,
        "prices": f"{_PRICES} {version(_PRICES)}" if is_priced else None,
        "forecasts": [
            {
                "pattern": each.pattern,
                "cold": _bill_data(each.cold),
                "warm": _bill_data(each.warm),
                "unwarmed": None if each.unwarmed is None else _bill_data(each.unwarmed),
            }
            for each in estimate.forecasts
        ],
    }


def _bill_data(bill: Bill) -> dict[str, Any]:
    return {**plain(bill), "hit_ratio": bill.hit_ratio}
