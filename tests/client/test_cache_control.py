"""The local cache under control: modes, age, scope, admission, rejection, samples, accounts."""

import asyncio
import itertools
import re
import warnings

import msgspec
import pytest

from lm_deluge import Conversation, Tool
from lm_deluge.cache import DistributedDictCache, LevelDBCache, MemoryCache, SqliteCache
from lm_deluge.errors import CacheError, CacheMissError, CacheWarning, ConfigError
from lm_deluge.events import RunReport
from lm_deluge.testing import Answer, Emulator, FakeClock

HOUR = 3600.0


def ask(client, prompts, **options):
    return client.process_prompts_sync(prompts, show_progress=False, **options)


@pytest.fixture
def numbered():
    """An emulator whose answers are numbered."""
    count = itertools.count(1)
    with Emulator(responder=lambda request: Answer(text=f"answer {next(count)}")) as emulator:
        yield emulator


class TestModes:
    def test_refresh_asks_anew_and_replaces_what_is_stored(self, numbered, make_client):
        client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=MemoryCache())
        assert ask(client, ["p"])[0].completion == "answer 1"
        (fresh,) = ask(client, ["p"], cache_mode="refresh")
        assert (fresh.completion, fresh.local_cache_hit) == ("answer 2", False)
        (hit,) = ask(client, ["p"])
        assert (hit.completion, hit.local_cache_hit) == ("answer 2", True)
        assert numbered.calls == 2

    def test_refresh_buys_a_duplicate_once_after_the_first_has_finished(self, emulator, make_client):
        client = make_client(cache=MemoryCache(), max_concurrent_requests=2)
        ask(client, ["p"])
        ask(client, ["p"] * 50, cache_mode="refresh")
        assert emulator.calls == 1 + 2

    def test_bypass_neither_reads_nor_writes(self, emulator, make_client):
        cache = MemoryCache()
        client = make_client(cache=cache)
        ask(client, ["p"], cache_mode="bypass")
        assert cache.get(Conversation.user("p")) is None
        ask(client, ["p"])
        ask(client, ["p"], cache_mode="bypass")
        assert emulator.calls == 3

    def test_offline_answers_from_the_cache_and_asks_nobody(self, emulator, make_client, monkeypatch, tmp_path):
        with SqliteCache(tmp_path / "c.db") as cache:
            ask(make_client(cache=cache), ["known"])
            monkeypatch.delenv("OPENAI_API_KEY")
            client = make_client(cache=cache)
            known, unknown = ask(client, ["known", "unknown"], cache_mode="offline")
        assert known.local_cache_hit
        assert unknown.is_error
        assert "offline" in unknown.error_message
        assert emulator.calls == 1
        report = client.last_report
        assert (report.prompts, report.hits, report.calls, report.errors) == (2, 1, 0, 1)

    def test_an_offline_miss_names_the_nearest_entry_and_the_difference(self, emulator, make_client, tmp_path):
        with SqliteCache(tmp_path / "c.db") as cache:
            client = make_client(cache=cache)
            ask(client, ["What is the capital of France?", "Name a prime number above 100."])
            (miss,) = ask(client, ["What is the capital of Frances?"], cache_mode="offline")
        assert re.search(
            r'messages\[0\]\.text: asked "What is the capital of Frances\?", stored "What is the capital of France\?"',
            miss.error_message,
        ), miss.error_message
        assert "gpt-4.1-mini" in miss.error_message

    def test_an_offline_miss_can_be_raised(self, emulator, make_client):
        client = make_client(cache=MemoryCache())
        with pytest.raises(CacheMissError, match="offline"):
            ask(client, ["p"], cache_mode="offline", on_miss="raise")
        assert emulator.calls == 0
        ask(client, ["p"])
        assert ask(client, ["p"], cache_mode="offline", on_miss="raise")[0].local_cache_hit

    def test_many_offline_misses_are_all_reported(self, emulator, make_client):
        client = make_client(cache=MemoryCache())
        ask(client, ["question 1000"])
        responses = ask(client, [f"question {number}" for number in range(300)], cache_mode="offline")
        assert [response.id for response in responses] == list(range(300))
        assert all(response.is_error for response in responses)
        assert "nearest" in responses[0].error_message
        assert "`deluge cache explain`" in responses[299].error_message

    def test_offline_without_a_cache_is_refused(self, make_client):
        with pytest.raises(ConfigError, match="no local cache"):
            ask(make_client(), ["p"], cache_mode="offline")

    def test_the_environment_sets_the_default(self, emulator, make_client, monkeypatch):
        client = make_client(cache=MemoryCache())
        monkeypatch.setenv("LM_DELUGE_CACHE_MODE", "offline")
        assert ask(client, ["p"])[0].is_error
        assert not ask(client, ["p"], cache_mode="use")[0].is_error
        monkeypatch.setenv("LM_DELUGE_CACHE_MODE", "ofline")
        with pytest.raises(ConfigError, match="LM_DELUGE_CACHE_MODE='ofline'"):
            ask(client, ["p"])

    def test_single_prompts_take_them_too(self, emulator, make_client):
        client = make_client(cache=MemoryCache())

        async def main():
            first = await client.start("p")
            again = await client.start("p", cache_mode="refresh")
            task = client.start_nowait("q", cache_mode="offline")
            return first, again, await client.wait_for(task)

        first, again, miss = asyncio.run(main())
        assert not first.local_cache_hit
        assert not again.local_cache_hit
        assert miss.is_error
        assert emulator.calls == 2

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"cache_mode": "read"}, "'use', 'refresh', 'bypass', 'offline'"),
            ({"max_age": 0}, "max_age"),
            ({"max_age": "1h"}, "max_age"),
            ({"tags": 5}, "tags"),
            ({"run_name": 5}, "run_name"),
            ({"samples": "2"}, "samples"),
            ({"samples": 2.0}, "samples"),
            ({"on_miss": "ignore"}, "on_miss"),
            ({"samples": 0}, "samples"),
            ({"samples": 1.5}, "samples"),
            ({"tags": [""]}, "tags"),
        ],
    )
    def test_values_without_meaning_are_refused(self, make_client, options, match):
        with pytest.raises(ConfigError, match=match):
            ask(make_client(cache=MemoryCache()), ["p"], **options)

    def test_an_unknown_argument_is_named_with_the_method(self, make_client):
        with pytest.raises(TypeError, match=r"process_prompts_sync\(\) got an unexpected keyword argument 'cach_mode'"):
            ask(make_client(), ["p"], cach_mode="use")


class TestAge:
    def test_an_entry_older_than_max_age_is_a_miss(self, numbered, make_client):
        clock = FakeClock()
        cache = MemoryCache(clock=clock)
        client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=cache)
        ask(client, ["p"])
        clock.advance(2 * HOUR)
        assert ask(client, ["p"], max_age=3 * HOUR)[0].completion == "answer 1"
        assert ask(client, ["p"], max_age=HOUR)[0].completion == "answer 2"
        assert ask(client, ["p"], max_age=HOUR)[0].completion == "answer 2"

    @pytest.mark.parametrize("kind", ["sqlite", "leveldb", "memory", "mapping"])
    def test_an_entry_that_outlived_its_ttl_is_a_miss(self, kind, numbered, make_client, tmp_path):
        clock = FakeClock()
        make = {
            "sqlite": lambda: SqliteCache(tmp_path / "c.db", ttl=HOUR, clock=clock),
            "leveldb": lambda: LevelDBCache(tmp_path / "c", ttl=HOUR, clock=clock),
            "memory": lambda: MemoryCache(ttl=HOUR, clock=clock),
            "mapping": lambda: DistributedDictCache({}, ttl=HOUR, clock=clock),
        }[kind]
        with make() as cache:
            client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=cache)
            ask(client, ["p"])
            clock.advance(HOUR)
            assert ask(client, ["p"])[0].local_cache_hit
            assert cache.get(Conversation.user("p")) is not None
            clock.advance(1)
            assert cache.get(Conversation.user("p")) is None
            assert ask(client, ["p"])[0].completion == "answer 2"
            assert ask(client, ["p"])[0].completion == "answer 2"

    def test_a_cache_of_the_users_own_cannot_tell_ages(self, make_client):
        class Own:
            def get(self, prompt):
                return None

            def put(self, prompt, response):
                raise NotImplementedError

        with pytest.raises(ConfigError, match=r"max_age= needs a cache of lm_deluge\.cache"):
            ask(make_client(cache=Own()), ["p"], max_age=5)
        with pytest.raises(ConfigError, match=r"samples= needs a cache of lm_deluge\.cache"):
            ask(make_client(cache=Own()), ["p"], samples=2)


WEATHER = Tool(name="weather", description="Weather in a city.", parameters={"city": {"type": "string"}})
TIME = Tool(name="time", description="Time in a city.", parameters={"city": {"type": "string"}})
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}

VARIANTS = {
    "model": ({"model": "gpt-4.1"}, {}),
    "temperature": ({"temperature": 0.5}, {}),
    "top_p": ({"top_p": 0.5}, {}),
    "max_new_tokens": ({"max_new_tokens": 50}, {}),
    "json_mode": ({"json_mode": True}, {}),
    "logprobs": ({"logprobs": True}, {}),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 2}, {}),
    "extra_body": ({"extra_body": {"metadata": {"a": "b"}}}, {}),
    "another extra_body": ({"extra_body": {"metadata": {"a": "c"}}}, {}),
    "a header": ({"extra_headers": {"openai-beta": "x"}}, {}),
    "tools": ({}, {"tools": [WEATHER]}),
    "more tools": ({}, {"tools": [WEATHER, TIME]}),
    "other order of tools": ({}, {"tools": [TIME, WEATHER]}),
    "tool choice": ({}, {"tools": [WEATHER], "tool_choice": "required"}),
    "a tool by name": ({}, {"tools": [WEATHER], "tool_choice": "weather"}),
    "output schema": ({}, {"output_schema": SCHEMA}),
}


class TestScope:
    def test_whatever_differs_is_a_miss_under_the_scope_of_requests(self, emulator, make_client):
        cache = MemoryCache(scope="request")
        for repeat in range(2):
            for name, (arguments, options) in {"plain": ({}, {}), **VARIANTS}.items():
                model = arguments.get("model", "gpt-4.1-mini")
                rest = {key: value for key, value in arguments.items() if key != "model"}
                (response,) = ask(make_client(model, cache=cache, **rest), ["p, please in JSON"], **options)
                assert not response.is_error, response.error_message
                assert response.local_cache_hit == bool(repeat), name
        assert emulator.calls == 1 + len(VARIANTS)

    def test_the_endpoint_is_part_of_the_request(self, emulator, make_client):
        cache = MemoryCache(scope="request")
        with Emulator() as other:
            ask(make_client(cache=cache), ["p"])
            assert not ask(make_client(cache=cache, base_url=other.openai_base_url, api_key="any"), ["p"])[
                0
            ].local_cache_hit

    def test_who_asks_is_no_part_of_it_and_reaches_no_entry(self, emulator, make_client, tmp_path):
        with SqliteCache(tmp_path / "c.db", scope="request") as cache:
            ask(make_client(cache=cache, api_key="sk-one", extra_headers={"X-Api-Key": "sk-secret"}), ["p"])
            client = make_client(cache=cache, api_key="sk-two", extra_headers={"X-Api-Key": "sk-other"})
            assert ask(client, ["p"])[0].local_cache_hit
        assert b"sk-" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())

    def test_any_of_several_models_may_have_answered(self, emulator, make_client):
        cache = MemoryCache(scope="request")
        ask(make_client("gpt-4.1", cache=cache), ["p"])
        client = make_client(["gpt-4.1-mini", "gpt-4.1"], cache=cache)
        (hit,) = ask(client, ["p"])
        assert (hit.local_cache_hit, hit.model_internal) == (True, "gpt-4.1")
        assert not ask(make_client("gpt-4.1-nano", cache=cache), ["p"])[0].local_cache_hit

    def test_direct_use_needs_the_parameters(self, emulator, make_client):
        cache = MemoryCache(scope="request")
        client = make_client(cache=cache)
        (response,) = ask(client, ["p"])
        prompt = Conversation.user("p")
        with pytest.raises(ConfigError, match="parameters="):
            cache.get(prompt)
        (parameters,) = client.parameters()
        found = cache.get(prompt, parameters)
        assert found == msgspec.structs.replace(response, entry=None)
        assert cache.get(prompt, client.parameters(tools=[WEATHER])[0]) is None
        assert cache.delete(prompt, parameters)

    @pytest.mark.parametrize("name", [name for name in VARIANTS if name not in ("model", "a header")])
    def test_under_the_default_other_parameters_hit_and_are_reported_once(self, name, emulator, make_client):
        arguments, options = VARIANTS[name]
        cache = MemoryCache()
        ask(make_client(cache=cache), ["a", "b"])
        client = make_client(cache=cache, **arguments)
        with pytest.warns(CacheWarning, match="scope 'request'") as caught:
            responses = ask(client, ["a", "b"], **options)
        assert all(response.local_cache_hit for response in responses)
        assert len(caught) == 1
        assert re.search(r"temperature|top_p|max_new_tokens|json_mode|logprobs|extra_body|tool|schema", str(caught[0]))

    def test_each_of_two_models_gets_its_own_answers_back(self, emulator, make_client):
        cache = MemoryCache()
        mini, full = make_client(cache=cache), make_client("gpt-4.1", cache=cache)
        first = ask(mini, ["a"], cache_mode="refresh"), ask(full, ["a"], cache_mode="refresh")
        assert emulator.calls == 2
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = ask(mini, ["a"]), ask(full, ["a"])
        assert emulator.calls == 2
        assert [one[0].content for one in again] == [one[0].content for one in first]
        assert [one[0].model_internal for one in again] == ["gpt-4.1-mini", "gpt-4.1"]

    def test_hits_of_other_requests_are_counted(self, emulator, make_client):
        cache = MemoryCache()
        ask(make_client(cache=cache), ["a", "b"])
        client = make_client(cache=cache, temperature=0.5)
        ask(client, ["c"])
        with pytest.warns(CacheWarning, match="other parameters") as caught:
            ask(client, ["a", "b", "c"])
        assert len(caught) == 1
        assert (client.last_report.hits, client.last_report.hits_of_other_requests) == (3, 2)

    def test_the_warning_names_the_values(self, emulator, make_client):
        cache = MemoryCache()
        ask(make_client(cache=cache, temperature=0.0), ["a"])
        with pytest.warns(CacheWarning, match=r"params\.temperature: asked 0\.5, stored 0"):
            ask(make_client(cache=cache, temperature=0.5), ["a"])

    def test_equal_parameters_are_not_reported(self, emulator, make_client):
        cache = MemoryCache()
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                ask(make_client(cache=cache, temperature=0.5), ["a"], tools=[WEATHER])
        assert emulator.calls == 1

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ({"scope": "prompt"}, "scope"),
            ({"admit": "all"}, "admit"),
            ({"ttl": 0}, "ttl"),
            ({"ttl": "7d"}, "ttl"),
            ({"max_bytes": -1}, "max_bytes"),
        ],
    )
    def test_arguments_without_meaning_are_refused(self, arguments, match):
        with pytest.raises(ConfigError, match=match):
            MemoryCache(**arguments)

    def test_a_store_that_cannot_be_limited_says_so(self, tmp_path):
        with pytest.raises(TypeError):
            LevelDBCache(tmp_path / "c", max_bytes=5)


class TestAdmission:
    def test_complete_leaves_out_what_was_cut_short(self, make_client):
        with Emulator(responder=lambda request: Answer(text="half a", finish="length")) as emulator:
            keeps = {"base_url": emulator.openai_base_url, "api_key": "any"}
            default = make_client(cache=MemoryCache(), **keeps)
            complete = make_client(cache=MemoryCache(admit="complete"), **keeps)
            for client, hits in ((default, 1), (complete, 0)):
                ask(client, ["p"])
                ask(client, ["p"])
                assert client.last_report.hits == hits
            assert complete.last_report.not_stored == 1

    def test_a_function_decides(self, numbered, make_client):
        cache = MemoryCache(admit=lambda response: response.completion.endswith("2"))
        client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=cache)
        assert [ask(client, ["p"])[0].local_cache_hit for _ in range(3)] == [False, False, True]

    def test_a_coroutine_function_cannot_decide(self):
        async def admit(response):
            return False

        with pytest.raises(ConfigError, match="coroutine"):
            MemoryCache(admit=admit)

    def test_only_a_truth_value_is_a_decision(self, emulator, make_client):
        client = make_client(cache=MemoryCache(admit=lambda response: "no"))
        with pytest.warns(CacheWarning, match="'no'; True or False"):
            (response,) = ask(client, ["p"])
        assert response.entry is None

    def test_a_function_that_raises_costs_no_answer(self, emulator, make_client):
        cache = MemoryCache(admit=lambda response: 1 / 0)
        client = make_client(cache=cache)
        with pytest.warns(CacheWarning, match="ZeroDivisionError"):
            (response,) = ask(client, ["p"])
        assert not response.is_error
        assert response.entry is None
        assert client.last_report.cache_failures == 1


class TestRejection:
    @pytest.mark.parametrize("kind", ["sqlite", "leveldb", "memory", "mapping"])
    def test_a_rejected_answer_is_bought_again_and_kept_for_audit(self, kind, numbered, make_client, tmp_path):
        make = {
            "sqlite": lambda: SqliteCache(tmp_path / "c.db"),
            "leveldb": lambda: LevelDBCache(tmp_path / "c"),
            "memory": MemoryCache,
            "mapping": lambda: DistributedDictCache({}),
        }[kind]
        with make() as cache:
            client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=cache)
            (bought,) = ask(client, ["p"])
            (hit,) = ask(client, ["p"])
            assert bought.entry == hit.entry
            assert client.cache.reject(hit, reason="wrong unit")
            assert not client.cache.reject(bought)
            (again,) = ask(client, ["p"])
            assert again.completion == "answer 2"
            assert not client.cache.reject(bought)  # what is there now is another answer
            assert ask(client, ["p"])[0].completion == "answer 2"
            if kind != "mapping":
                (kept,) = cache.backend.quarantined()
                assert kept.key.hex() == bought.entry
                assert kept.reason == "rejected: wrong unit"

    def test_what_is_in_no_cache_cannot_be_rejected(self, emulator, make_client):
        cache = MemoryCache()
        (response,) = ask(make_client(), ["p"])
        with pytest.raises(ConfigError, match="in no cache"):
            cache.reject(response)

    def test_a_closed_cache_says_so(self, emulator, make_client):
        cache = MemoryCache()
        (response,) = ask(make_client(cache=cache), ["p"])
        cache.close()
        with pytest.raises(CacheError, match="closed"):
            cache.reject(response)


class TestSamples:
    def test_eight_after_five_buys_three(self, numbered, make_client, tmp_path):
        with SqliteCache(tmp_path / "c.db") as cache:
            client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=cache)
            five = ask(client, ["p", "q"], samples=5)
            assert [(response.id, response.sample) for response in five] == [
                (prompt, sample) for prompt in range(2) for sample in range(5)
            ]
            assert len({response.completion for response in five}) == 10
            assert numbered.calls == 10
            eight = ask(client, ["p", "q"], samples=8)
            assert numbered.calls == 16
            assert [response.local_cache_hit for response in eight] == 2 * (5 * [True] + 3 * [False])
            assert [response.completion for response in eight if response.sample < 5] == [
                response.completion for response in five
            ]

    def test_the_first_sample_is_the_answer_without_samples(self, numbered, make_client):
        client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=MemoryCache())
        (plain,) = ask(client, ["p"])
        first, second = ask(client, ["p"], samples=2)
        assert (first.completion, first.local_cache_hit) == (plain.completion, True)
        assert not second.local_cache_hit

    def test_samples_are_bought_even_in_single_flight(self, numbered, make_client):
        client = make_client(base_url=numbered.openai_base_url, api_key="any", cache=MemoryCache(), single_flight=True)
        assert len({response.completion for response in ask(client, ["p", "p"], samples=4)}) == 4
        assert numbered.calls == 4

    def test_without_a_cache_all_are_bought(self, numbered, make_client):
        client = make_client(base_url=numbered.openai_base_url, api_key="any")
        assert len({response.completion for response in ask(client, ["p"], samples=4)}) == 4

    def test_a_prompt_that_cannot_be_sent_fails_once_for_each(self, emulator, make_client, tmp_path):
        client = make_client()
        bad = Conversation.user("x", image=tmp_path / "missing.png")
        responses = ask(client, [bad, "fine"], samples=2)
        assert [(response.id, response.sample, response.is_error) for response in responses] == [
            (0, 0, True),
            (0, 1, True),
            (1, 0, False),
            (1, 1, False),
        ]

    def test_a_single_prompt_has_one_answer(self, emulator, make_client):
        async def main():
            await make_client().start("p", samples=2)

        with pytest.raises(ConfigError, match="process_prompts"):
            asyncio.run(main())


class TestAccounts:
    def test_each_run_is_recorded_with_its_name_and_tags(self, emulator, make_client, tmp_path):
        with SqliteCache(tmp_path / "c.db") as cache:
            client = make_client(cache=cache)
            ask(client, ["a", "b"], run_name="first", tags=["eval", "gsm8k"])
            ask(client, ["a", "b", "c"], tags="eval")
            second, first = cache.backend.runs()
            assert (first.name, first.tags, first.models) == ("first", ("eval", "gsm8k"), ("gpt-4.1-mini",))
            assert (second.name, second.tags) == (None, ("eval",))
            assert second.report == client.last_report
            assert second.report.hits_by_store == {cache.location: 2}
            assert {entry.facts.run for entry in cache.backend.scan()} == {first.id, second.id}

    def test_the_client_adds_up_all_of_its_runs(self, emulator, make_client):
        client = make_client(cache=MemoryCache())
        assert client.report() == RunReport()
        ask(client, ["a", "b"])
        ask(client, ["a", "b", "c"])
        asyncio.run(client.start("a"))
        report = client.report()
        assert (report.prompts, report.hits, report.calls) == (6, 3, 3)
        assert report.hits_by_store == {"memory": 3}
        assert report.cost > 0
        assert report.cost_avoided > 0

    def test_hits_of_the_providers_cache_are_counted_by_provider(self, emulator, make_client):
        client = make_client("claude-haiku-4-5", cache=MemoryCache())
        base = Conversation.system("You are an expert. " * 2_000)
        ask(client, [base.user("a")], cache="system_and_tools")
        ask(client, [base.user("b"), base.user("c")], cache="system_and_tools")
        assert client.last_report.prompt_cache_hits == {"anthropic": 2}

    def test_a_cache_that_cannot_keep_accounts_loses_no_answer(self, emulator, make_client):
        cache = MemoryCache()
        cache.backend.record_run = lambda run: 1 / 0
        client = make_client(cache=cache)
        with pytest.warns(CacheWarning, match="account"):
            (response,) = ask(client, ["p"])
        assert not response.is_error


class TestExplain:
    def test_a_hit_and_a_miss(self, emulator, make_client, tmp_path):
        with SqliteCache(tmp_path / "c.db") as cache:
            client = make_client(cache=cache)
            ask(client, ["What is the capital of France?"])
            hit = client.explain("What is the capital of France?")
            miss = client.explain("What is the capital of Italy?")
        assert hit.hit
        assert not miss.hit
        assert "messages[0].text" in str(miss)

    def test_it_needs_a_cache_of_ours(self, make_client):
        with pytest.raises(ConfigError, match="no cache"):
            make_client().explain("p")


def test_a_hit_equals_what_was_bought_but_for_what_names_the_hit(emulator, make_client, tmp_path):
    with SqliteCache(tmp_path / "c.db") as cache:
        client = make_client(cache=cache)
        bought = ask(client, ["a", "b"])
        hits = ask(client, ["b", "a"])
    for original, hit in zip(bought, reversed(hits), strict=True):
        assert hit == msgspec.structs.replace(
            original, id=hit.id, local_cache_hit=True, cost=0.0, cost_avoided=original.cost
        )
