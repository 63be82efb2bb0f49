"""Numbers, money and durations as people read them, and the sentences made of them."""

from collections.abc import Iterable

from lm_deluge.events import RunReport

__all__ = ["count", "duration", "money", "paid", "rate", "summary"]

_NO_MONEY = 1e-9  # dollars; less than that is what is left of a difference


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 error``, ``2 errors``, ``1,319 prompts``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def money(dollars: float, *, beside: Iterable[float] = ()) -> str:
    """US dollars with the digits that matter: ``$1,234``, ``$1.23``, ``$0.0123``, ``$0.00042``.

    Args:
        dollars: the amount.
        beside: others of the same column, which all get the decimals that the smallest of them needs.
    """
    sign, size = ("-", -dollars) if dollars < 0 else ("", dollars)
    if size < _NO_MONEY:
        return "$0"
    return f"{sign}${size:,.{max(map(_decimals, (size, *beside)))}f}"


def _decimals(dollars: float) -> int:
    size = abs(dollars)
    if size >= 999.995 or size < _NO_MONEY:
        return 0
    if size >= 0.99995:
        return 2
    if size >= 0.01:
        return 4
    return 1 - int(f"{size:.1e}".partition("e")[2])  # two digits that count, however small


def rate(per_second: float) -> str:
    """``26,380/s``, ``4.2/s``, ``0.05/s``."""
    digits = 0 if per_second >= 9.95 else 1 if per_second >= 0.95 else 2
    return f"{per_second:,.{digits}f}/s"


def duration(seconds: float) -> str:
    """``under 1 ms``, ``0.05 s``, ``4.2 s``, ``42 s``, ``3 min 5 s``, ``2 h 5 min``."""
    if seconds < 0.95:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def paid(cost: float, unpriced: int) -> str:
    """``$1.23 paid``, and how many answers that leaves out."""
    known = f"{money(cost)} paid"
    return f"{known} (+ {count(unpriced, 'answer')} of unknown price)" if unpriced else known


_CENT = 1e-4  # dollars; a hundredth of a cent is not worth a word


def summary(report: RunReport) -> str:
    """A finished run in one line."""
    prompts = count(report.prompts, "prompt")
    speed = rate(report.prompts / report.seconds) if report.seconds > 0 else None
    took = f" in {duration(report.seconds)} ({speed})" if speed else ""
    if report.prompts and report.hits == report.prompts:
        return f"{prompts} from the cache{took}: $0 paid, {money(report.cost_avoided)} saved."
    facts = [
        count(report.hits, "hit") if report.hits else "",
        count(report.calls, "call"),
        count(report.retries, "retry", "retries") if report.retries else "",
        count(report.errors, "error") if report.errors else "",
        paid(report.cost, report.unpriced),
        f"{money(report.cost_avoided)} avoided" if report.cost_avoided else "",
        f"{money(report.saved_by_prompt_cache)} saved by prompt cache" if report.saved_by_prompt_cache > _CENT else "",
        f"{money(-report.saved_by_prompt_cache)} more than without prompt cache"
        if report.saved_by_prompt_cache < -_CENT and report.usage.has_cache_write
        else "",
        f"{money(report.lost_to_writes)} lost to avoidable writes" if report.lost_to_writes > _CENT else "",
        count(report.cache_failures, "cache failure") if report.cache_failures else "",
        count(report.damaged_entries, "damaged cache entry", "damaged cache entries") if report.damaged_entries else "",
        f"{count(report.not_stored, 'answer')} not stored" if report.not_stored else "",
    ]
    return f"{prompts}{took}: {', '.join(filter(None, facts))}."
