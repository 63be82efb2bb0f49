from lm_deluge.events import RunReport
from lm_deluge.progress.summary import summary
from lm_deluge.usage import Usage


def test_a_run_from_the_cache_says_how_fast_it_was_and_what_it_saved() -> None:
    report = RunReport(prompts=1319, hits=1319, cost_avoided=0.18776, seconds=0.05)
    assert summary(report) == "1,319 prompts from the cache in 0.05 s (26,380/s): $0 paid, $0.1878 saved."


def test_what_did_not_happen_is_not_told() -> None:
    report = RunReport(prompts=10, calls=10, cost=0.5, cost_without_prompt_caching=0.5, seconds=2.0)
    assert summary(report) == "10 prompts in 2.0 s (5.0/s): 10 calls, $0.5000 paid."


def test_hits_of_other_requests_are_told_with_the_remedy() -> None:
    report = RunReport(prompts=9, hits=9, hits_of_other_requests=3, cost_avoided=0.5, seconds=1.0)
    assert summary(report) == (
        "9 prompts from the cache in 1.0 s (9.0/s): $0 paid, $0.5000 saved. 3 hits were asked of another model or with "
        "other parameters; to keep them apart, use the scope 'request'."
    )
    report = RunReport(prompts=9, hits=1, hits_of_other_requests=1, calls=8, cost=0.5, cost_without_prompt_caching=0.5)
    assert "9 prompts: 1 hit, 8 calls, $0.5000 paid. 1 hit was asked of another model" in summary(report)


def test_a_report_reads_as_lines():
    report = RunReport(prompts=3_000, calls=2, cost=0.1 + 0.2, usage=Usage(input_tokens=1_234), hits_by_store={"a": 7})
    assert str(report).splitlines() == [
        "prompts: 3,000",
        "hits_by_store: a 7",
        "calls: 2",
        "usage: input_tokens 1,234",
        "cost: 0.3",
        "saved_by_prompt_cache: -0.3",
    ]
    assert str(RunReport()) == ""


def test_what_the_prompt_cache_cost_is_told():
    report = RunReport(prompts=1, calls=1, cost=3.0, cost_without_prompt_caching=1.0, usage=Usage(cache_write_tokens=9))
    assert summary(report) == "1 prompt: 1 call, $3.00 paid, $2.00 more than without prompt cache."


def test_all_that_went_wrong_is_told() -> None:
    report = RunReport(
        prompts=10,
        hits=3,
        calls=9,
        errors=1,
        retries=2,
        cost=0.5,
        cost_avoided=0.25,
        unpriced=2,
        cache_failures=4,
        store_failures=3,
        damaged_entries=2,
        not_stored=4,
        seconds=2.0,
    )
    assert summary(report) == (
        "10 prompts in 2.0 s (5.0/s): 3 hits, 9 calls, 2 retries, 1 error, "
        "$0.5000 paid (+ 2 answers of unknown price), $0.2500 avoided, "
        "2 damaged cache entries, 4 answers not stored. "
        "The cache did not store 3 answers. All were delivered, and the next run asks for them again unless the cache "
        "has taken them by then. The cache failed at 1 lookup or the like, and the run went on as if it had no answer "
        "there."
    )


def test_an_empty_run_has_a_summary() -> None:
    assert summary(RunReport()) == "0 prompts: 0 calls, $0 paid."
