"""A finished run in one line."""

from lm_deluge.events import RunReport
from lm_deluge.text import counted, duration, money, rate

__all__ = ["cache_failures", "other_requests", "paid", "summary"]


def paid(cost: float, unpriced: int) -> str:
    """``$1.23 paid``, and how many answers that leaves out."""
    known = f"{money(cost)} paid"
    return f"{known} (+ {counted(unpriced, 'answer')} of unknown price)" if unpriced else known


_CENT = 1e-4  # dollars; a hundredth of a cent is not worth a word


def summary(report: RunReport) -> str:
    """A finished run in one line."""
    prompts = counted(report.prompts, "prompt")
    speed = rate(report.prompts / report.seconds) if report.seconds > 0 else None
    took = f" in {duration(report.seconds)} ({speed})" if speed else ""
    if report.prompts and report.hits == report.prompts:
        saved = f"{prompts} from the cache{took}: $0 paid, {money(report.cost_avoided)} saved."
        return " ".join([saved, *other_requests(report)])
    facts = [
        counted(report.hits, "hit") if report.hits else "",
        counted(report.calls, "call"),
        counted(report.retries, "retry", "retries") if report.retries else "",
        counted(report.errors, "error") if report.errors else "",
        paid(report.cost, report.unpriced),
        f"{money(report.cost_avoided)} avoided" if report.cost_avoided else "",
        f"{money(report.saved_by_prompt_cache)} saved by prompt cache" if report.saved_by_prompt_cache > _CENT else "",
        f"{money(-report.saved_by_prompt_cache)} more than without prompt cache"
        if report.saved_by_prompt_cache < -_CENT and report.usage.has_cache_write
        else "",
        f"{money(report.wasted_write_cost)} wasted on avoidable writes" if report.wasted_write_cost > _CENT else "",
        counted(report.damaged_entries, "damaged cache entry", "damaged cache entries")
        if report.damaged_entries
        else "",
        f"{counted(report.not_stored, 'answer')} not stored" if report.not_stored else "",
    ]
    line = f"{prompts}{took}: {', '.join(filter(None, facts))}."
    return " ".join([line, *other_requests(report), *cache_failures(report)])


def other_requests(report: RunReport) -> list[str]:
    """How many hits were answers to other requests, in a sentence; none where there are no such hits."""
    if not report.hits_of_other_requests:
        return []
    hits = counted(report.hits_of_other_requests, "hit was", "hits were")
    return [f"{hits} asked of another model or with other parameters; to keep them apart, use the scope 'request'."]


def cache_failures(report: RunReport) -> list[str]:
    """What it means that the local cache failed, in sentences; none where it did not."""
    unstored = counted(report.store_failures, "answer")
    others = report.cache_failures - report.store_failures
    missed = counted(others, "lookup or the like", "lookups or the like")
    sentences = [
        f"The cache did not store {unstored}. All were delivered, and the next run asks for them again unless the "
        "cache has taken them by then."
        if report.store_failures
        else "",
        f"The cache failed at {missed}, and the run went on as if it had no answer there." if others else "",
    ]
    return [sentence for sentence in sentences if sentence]
