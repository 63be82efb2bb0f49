"""Batches through the client against the emulator, over real sockets."""

import asyncio
import threading

import pytest

from lm_deluge import Conversation, LLMClient, Message, Tool
from lm_deluge.cache import MemoryCache, SqliteCache
from lm_deluge.errors import CacheWarning, ConfigError, ModelWarning, PromptCacheWarning, UnknownModelError
from lm_deluge.testing import Answer, Emulator, Fault, gsm8k

QUESTIONS = [row["question"] for row in gsm8k()]


def quiet(client: LLMClient, prompts, **options):
    return client.process_prompts_sync(prompts, show_progress=False, **options)


class TestDocumentedContract:
    def test_the_second_call_is_answered_at_once(self, emulator, make_client, tmp_path):
        client = make_client(cache=SqliteCache(tmp_path / "my_cache.db"))
        (first,) = quiet(client, ["What is 2+2?"])
        (second,) = quiet(client, ["What is 2+2?"])
        assert emulator.calls == 1
        assert not first.local_cache_hit
        assert second.local_cache_hit
        assert (second.cost, second.cost_avoided) == (0.0, first.cost)
        assert first.cost > 0
        assert (second.completion, second.usage, second.raw_response) == (
            first.completion,
            first.usage,
            first.raw_response,
        )

    def test_a_hundred_duplicates_are_a_hundred_calls_and_then_a_hundred_hits(self, emulator, make_client, tmp_path):
        client = make_client(cache=SqliteCache(tmp_path / "c.db"))
        first = quiet(client, ["the same"] * 100)
        assert emulator.calls == 100
        second = quiet(client, ["the same"] * 100)
        assert emulator.calls == 100
        assert [r.local_cache_hit for r in first] == [False] * 100
        assert [r.local_cache_hit for r in second] == [True] * 100
        assert len({r.completion for r in second}) == 1

    def test_duplicates_ask_only_until_the_first_has_finished(self, emulator, make_client):
        client = make_client(cache=MemoryCache(), max_concurrent_requests=10)
        responses = quiet(client, ["the same"] * 100)
        assert 10 <= emulator.calls < 30
        assert len(responses) == 100
        assert client.last_report.hits + client.last_report.calls == 100

    def test_other_sampling_parameters_hit_the_same_entry(self, emulator, make_client):
        cache = MemoryCache()
        quiet(make_client(cache=cache, temperature=0.0), ["q"])
        (hit,) = quiet(make_client(cache=cache, temperature=1.0, max_new_tokens=7), ["q"])
        assert hit.local_cache_hit
        assert emulator.calls == 1

    def test_another_models_answer_is_served_and_reported_once(self, emulator, make_client):
        cache = MemoryCache()
        quiet(make_client("gpt-4.1-mini", cache=cache), ["a", "b"])
        client = make_client("gpt-4.1", cache=cache)
        with pytest.warns(CacheWarning, match=r"'gpt-4.1-mini'.*gpt-4.1.*scope 'request'") as caught:
            responses = quiet(client, ["a", "b"])
        assert len([w for w in caught if issubclass(w.category, CacheWarning)]) == 1
        assert [r.model_internal for r in responses] == ["gpt-4.1-mini"] * 2
        assert emulator.calls == 2

    def test_local_and_provider_caching_work_together(self, emulator, make_client, tmp_path):
        client = make_client("claude-sonnet-4-5", cache=SqliteCache(tmp_path / "c.db"))
        system = "You know all of this. " * 400
        prompts = [Conversation.system(system).add(Message.user(question)) for question in QUESTIONS[:3]]
        first = [quiet(client, [prompt], cache="system_and_tools")[0] for prompt in prompts]
        assert [r.usage.cache_write_tokens > 0 for r in first] == [True, False, False]
        assert [r.cache_hit for r in first] == [False, True, True]
        again = quiet(client, prompts, cache="system_and_tools")
        assert emulator.calls == 3
        assert [r.local_cache_hit for r in again] == [True] * 3
        assert [r.usage for r in again] == [r.usage for r in first]


class TestShapes:
    def test_results_come_in_the_order_of_the_prompts_exactly_one_each(self, emulator, make_client):
        responses = quiet(make_client(), QUESTIONS[:200])
        assert [r.id for r in responses] == list(range(200))
        answers = {row["question"]: row["answer"] for row in gsm8k()}
        assert [r.completion for r in responses] == [answers[question] for question in QUESTIONS[:200]]

    @pytest.mark.parametrize(
        ("prompts", "count"),
        [
            ([], 0),
            ("one bare string", 1),
            (("a", "tuple"), 2),
            ((text for text in ["a", "generator"]), 2),
            (Message.user("a message"), 1),
            (Conversation.user("a conversation"), 1),
            ([{"role": "user", "content": "an OpenAI-style list is one prompt"}], 1),
            ([[{"role": "user", "content": "and"}], [{"role": "user", "content": "two"}]], 2),
        ],
    )
    def test_what_may_be_given_as_prompts(self, emulator, make_client, prompts, count):
        responses = quiet(make_client(), prompts)
        assert [r.is_error for r in responses] == [False] * count
        assert emulator.calls == count

    def test_completions_only(self, make_client):
        client = make_client()
        assert quiet(client, [QUESTIONS[0], 7], return_completions_only=True) == [gsm8k()[0]["answer"], None]

    def test_what_is_no_batch_is_refused_at_once(self, make_client):
        with pytest.raises(TypeError, match="int"):
            quiet(make_client(), 7)

    def test_the_users_own_iterable_may_fail_and_what_was_started_is_kept(self, emulator, make_client):
        cache = MemoryCache()

        def prompts():
            yield from ["a", "b"]
            raise RuntimeError("the reader broke")

        with pytest.raises(RuntimeError, match="the reader broke"):
            quiet(make_client(cache=cache), prompts())
        assert emulator.calls in (0, 2)


class TestEverywhere:
    def test_in_a_thread(self, make_client):
        client, results = make_client(), []
        thread = threading.Thread(target=lambda: results.extend(quiet(client, ["x"])))
        thread.start()
        thread.join()
        assert not results[0].is_error

    def test_inside_a_running_loop_as_in_a_notebook(self, make_client):
        client = make_client()

        async def cell():
            return quiet(client, ["x", "y"])

        assert [r.is_error for r in asyncio.run(cell())] == [False, False]

    def test_one_client_in_several_threads_at_once(self, emulator, make_client, tmp_path):
        client = make_client(cache=SqliteCache(tmp_path / "c.db"))
        results: dict[int, list] = {}

        def work(number: int) -> None:
            results[number] = quiet(client, [f"{number}-{i}" for i in range(50)])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert emulator.calls == 200
        assert all(not r.is_error for responses in results.values() for r in responses)

    def test_iterating_asks_no_further_than_it_has_to(self, emulator, make_client):
        client = make_client(max_concurrent_requests=4)
        taken = 0

        async def endless():
            nonlocal taken
            while True:
                taken += 1
                yield f"prompt {taken}"

        async def main():
            seen = []
            async for response in client.process_prompts_iter(endless(), show_progress=False):
                seen.append(response.id)
                if len(seen) == 20:
                    break
            return seen

        seen = asyncio.run(main())
        assert len(set(seen)) == 20
        assert taken < 3_000

    def test_an_iterable_of_many_is_read_lazily(self, emulator, make_client):
        client = make_client(max_concurrent_requests=8)
        read, most = 0, 0

        def prompts():
            nonlocal read
            for number in range(3_000):
                read += 1
                yield f"q{number}"

        async def main():
            nonlocal most
            done = 0
            async for _ in client.process_prompts_iter(prompts(), show_progress=False):
                done += 1
                most = max(most, read - done)
            return done

        assert asyncio.run(main()) == 3_000
        assert most <= 2 * 512 + 2 * 8


class TestSinglePrompts:
    def test_start_wait_and_as_completed(self, emulator, make_client):
        client = make_client()

        async def main():
            direct = await client.start("direct")
            ids = [client.start_nowait(f"p{i}") for i in range(5)]
            one = await client.wait_for(ids[0])
            rest = await client.wait_for_all()
            more = [client.start_nowait(f"m{i}") for i in range(3)]
            completed = {task_id: response.id async for task_id, response in client.as_completed()}
            with pytest.raises(ConfigError, match="already taken"):
                await client.wait_for(ids[0])
            return direct, ids, one, rest, more, completed

        direct, ids, one, rest, more, completed = asyncio.run(main())
        assert not direct.is_error
        assert one.id == ids[0]
        assert [r.id for r in rest] == ids[1:]
        assert completed == {task_id: task_id for task_id in more}
        assert emulator.calls == 9


class TestRetries:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault.error(408),
            Fault.error(409),
            Fault.rate_limit(retry_after=2),
            Fault.error(500),
            Fault.error(503),
            Fault.overloaded(),
            Fault.drop(),
            Fault.drop(after_bytes=40),
            Fault.invalid_json(),
            Fault.cut_body(),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("model", ["gpt-4.1-mini", "claude-haiku-4-5"])
    def test_what_may_pass_is_tried_again(self, emulator, make_client, instant_clock, fault, model):
        emulator.script([fault])
        client = make_client(model, clock=instant_clock)
        (response,) = quiet(client, ["x"])
        assert not response.is_error, response.error_message
        assert client.last_report.calls == 2
        assert client.last_report.retries == 1
        assert instant_clock.slept

    @pytest.mark.parametrize(
        "fault",
        [Fault.error(400), Fault.error(401), Fault.error(402), Fault.error(403), Fault.error(404), Fault.spend_limit()],
        ids=repr,
    )
    @pytest.mark.parametrize("model", ["gpt-4.1-mini", "claude-haiku-4-5"])
    def test_what_will_not_pass_is_not(self, emulator, make_client, instant_clock, fault, model):
        emulator.script([fault])
        client = make_client(model, clock=instant_clock)
        (response,) = quiet(client, ["x"])
        assert response.is_error
        assert response.status_code == fault.status
        assert emulator.calls == 1

    def test_attempts_come_to_an_end(self, emulator, make_client, instant_clock):
        emulator.script([Fault.error(500)] * 9)
        (response,) = quiet(make_client(clock=instant_clock, max_attempts=3), ["x"])
        assert emulator.calls == 3
        assert "after 3 attempts" in response.error_message

    def test_a_server_that_hangs_is_a_timeout(self, emulator, make_client, instant_clock):
        emulator.script([Fault.hang()])
        client = make_client(request_timeout=0.3, clock=instant_clock, max_attempts=100)
        (response,) = quiet(client, ["x"])
        assert not response.is_error
        assert client.last_report.retries >= 1  # on a busy machine the next answer may be late too

    def test_a_429_makes_every_call_wait(self, emulator, make_client, instant_clock):
        emulator.script([Fault.rate_limit(retry_after=7)])
        client = make_client(clock=instant_clock, max_concurrent_requests=1)
        begin = instant_clock.monotonic()
        responses = quiet(client, ["a", "b", "c"])
        assert [r.is_error for r in responses] == [False] * 3
        assert 7 <= instant_clock.monotonic() - begin < 10

    def test_nobody_listening_is_an_error_response_naming_the_host(self, instant_clock):
        with LLMClient("m", base_url="http://127.0.0.1:9/v1", clock=instant_clock, max_attempts=2) as client:
            (response,) = quiet(client, ["x"])
        assert response.is_error
        assert "127.0.0.1" in response.error_message
        assert "after 2 attempts" in response.error_message

    def test_an_answer_stored_while_a_retry_waited_is_not_bought_again(self, emulator, make_client, instant_clock):
        cache = MemoryCache()

        client = make_client(cache=cache, clock=instant_clock)
        emulator.script([Fault.error(500)])
        other = make_client(cache=cache)
        sleep = instant_clock.sleep

        async def answered_meanwhile(seconds: float) -> None:
            await other.process_prompts_async(["x"], show_progress=False)
            await sleep(seconds + 2)

        instant_clock.sleep = answered_meanwhile
        (response,) = quiet(client, ["x"])
        assert response.local_cache_hit
        assert emulator.calls == 2


class TestBadInput:
    def test_no_api_key_is_an_error_response_and_hits_still_work(self, emulator, make_client, monkeypatch):
        cache = MemoryCache()
        quiet(make_client(cache=cache), ["known"])
        monkeypatch.delenv("OPENAI_API_KEY")
        known, unknown = quiet(make_client(cache=cache), ["known", "unknown"])
        assert known.local_cache_hit
        assert unknown.is_error
        assert "OPENAI_API_KEY" in unknown.error_message
        assert emulator.calls == 1

    def test_a_model_of_no_provider(self):
        with pytest.raises(UnknownModelError, match="base_url") as caught:
            LLMClient("foo-large")
        assert isinstance(caught.value, ValueError)

    def test_a_model_released_tomorrow_goes_out_and_its_cost_is_not_known(self, emulator, make_client):
        client = make_client("gpt-99-mini")
        with pytest.warns(ModelWarning, match="gpt-99-mini") as caught:
            responses = quiet(client, ["a", "b"])
        assert len(caught) == 1
        assert [r.cost for r in responses] == [None, None]
        assert client.last_report.unpriced == 2

    def test_bad_media_are_errors_at_their_own_positions(self, emulator, make_client, tmp_path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"this is no image")
        prompts = [
            "fine",
            Message.user("look").with_image(tmp_path / "missing.png"),
            Message.user("look").with_image(broken),
            Message.user("look").with_image(f"{emulator.url}/no-such-image.png"),
            "fine too",
        ]
        responses = quiet(make_client(), prompts)
        assert [r.is_error for r in responses] == [False, True, True, True, False]
        assert "missing.png" in responses[1].error_message
        assert "broken.png" in responses[2].error_message
        assert responses[3].status_code == 400

    def test_a_prompt_above_the_token_budget(self, emulator, make_client):
        client = make_client(max_tokens_per_minute=1_000)
        small, large = quiet(client, ["small", "large " * 1_000])
        assert not small.is_error
        assert "max_tokens_per_minute is 1,000" in large.error_message
        assert emulator.calls == 1

    def test_text_that_is_not_unicode_is_one_error(self, emulator, make_client):
        fine, broken = quiet(make_client(), ["fine", "lone \ud800 surrogate"])
        assert not fine.is_error
        assert "Unicode" in broken.error_message

    def test_a_cache_without_get_and_put(self):
        with pytest.raises(TypeError, match="no put"):
            LLMClient("gpt-4.1-mini", cache={})
        with pytest.raises(TypeError, match="process_prompts"):
            LLMClient("gpt-4.1-mini", cache="system_and_tools")

    def test_a_falsy_cache_is_still_used(self, emulator, make_client):
        class Empty(dict):
            def get(self, prompt):
                return super().get(prompt.fingerprint)

            def put(self, prompt, response):
                self[prompt.fingerprint] = response

        cache = Empty()
        assert not cache
        client = make_client(cache=cache)
        quiet(client, ["x"])
        assert len(cache) == 1
        assert quiet(client, ["x"])[0].local_cache_hit

    @pytest.mark.parametrize("broken", ["get", "put"])
    def test_a_cache_that_raises_loses_no_answer(self, emulator, make_client, broken):
        class Broken:
            def get(self, prompt):
                if broken == "get":
                    raise OSError("the disk is gone")

            def put(self, prompt, response):
                if broken == "put":
                    raise OSError("the disk is gone")

        client = make_client(cache=Broken())
        with pytest.warns(CacheWarning, match="the disk is gone") as caught:
            responses = quiet(client, [f"q{i}" for i in range(20)])
        assert [r.is_error for r in responses] == [False] * 20
        assert client.last_report.cache_failures == 20
        assert client.last_report.store_failures == (20 if broken == "put" else 0)
        assert len(caught) == 1

    def test_a_damaged_row_is_a_miss_and_named(self, emulator, make_client, tmp_path):
        import sqlite3

        path = tmp_path / "c.db"
        cache = SqliteCache(path)
        client = make_client(cache=cache)
        quiet(client, ["x"])
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("UPDATE entries SET response = substr(response, 1, 40)")
        connection.close()
        with pytest.warns(CacheWarning, match=r"c\.db.*quarantined"):
            (response,) = quiet(client, ["x"])
        assert not response.is_error
        assert not response.local_cache_hit
        assert client.last_report.damaged_entries == 1
        assert quiet(client, ["x"])[0].local_cache_hit

    def test_an_unknown_pattern_names_the_known_ones(self, make_client):
        with pytest.raises(ConfigError, match=r"system_and_tools.*last_3_user_messages"):
            quiet(make_client(), ["x"], cache="everything")

    def test_a_provider_without_marks_is_reported_once(self, emulator, make_client):
        client = make_client("llama-4", base_url=emulator.openai_base_url, api_key="any")
        with pytest.warns(PromptCacheWarning, match="llama-4") as caught:
            responses = quiet(client, ["a", "b"], cache="system_and_tools")
        assert [r.is_error for r in responses] == [False, False]
        assert len(caught) == 1

    def test_warnings_as_errors_do_not_cost_answers(self, emulator, make_client, caplog):
        # The suite itself turns warnings into errors. Calls were made by then, so it is logged instead.
        responses = quiet(make_client("gpt-99-mini"), ["a", "b"])
        assert [r.is_error for r in responses] == [False, False]
        assert "gpt-99-mini" in caplog.text

    def test_warnings_as_errors_are_raised_before_the_first_call(self, emulator, make_client):
        client = make_client("llama-4", base_url=emulator.openai_base_url, api_key="any")
        with pytest.raises(PromptCacheWarning):
            quiet(client, ["a"], cache="system_and_tools")
        assert emulator.calls == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            {"max_requests_per_minute": 0},
            {"max_concurrent_requests": 0},
            {"max_attempts": 0},
            {"request_timeout": 0},
            {"temperature": 9},
            {"progress": "loud"},
            {"top_logprobs": 3},
            {"model_weights": [1, 2]},
        ],
        ids=str,
    )
    def test_settings_without_meaning_are_refused_at_construction(self, arguments):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            LLMClient("gpt-4.1-mini", **arguments)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(text="I cannot help with that.", refusal="policy"),
        Answer(text="", finish="stop"),
        Answer(text="   \n", finish="stop"),
    ],
    ids=["refusal", "empty", "blank"],
)
def test_refusals_and_empty_answers_are_not_stored(make_client, answer):
    with Emulator(responder=lambda request: answer) as emulator:
        client = make_client("claude-haiku-4-5", base_url=emulator.url, api_key="any", cache=MemoryCache())
        quiet(client, ["x"])
        quiet(client, ["x"])
        assert emulator.calls == 2
        assert client.last_report.not_stored == 1


def test_credentials_show_nowhere(emulator, make_client, caplog):
    secret = "sk-very-secret-0123456789"
    client = make_client(api_key=secret, extra_headers={"x-extra-token": secret})
    emulator.script([Fault.error(401, message=f"Incorrect API key provided: {secret}")])
    (response,) = quiet(client, ["x"])
    shown = " ".join([repr(client), repr(client.__dict__), repr(response), caplog.text, repr(client._state.settings)])
    assert secret not in shown


def test_several_models_share_the_prompts(emulator, make_client):
    client = make_client(["gpt-4.1-mini", "claude-haiku-4-5"], model_weights=[1, 1])
    used = {r.model_internal for r in quiet(client, [f"q{i}" for i in range(60)])}
    assert used == {"gpt-4.1-mini", "claude-haiku-4-5"}


def test_from_dict_and_from_yaml(tmp_path):
    config = {"model": "gpt-4.1-mini", "max_attempts": 2, "sampling_params": {"temperature": 0.5}}
    client = LLMClient.from_dict(config)
    assert client._state.settings.params.temperature == 0.5
    path = tmp_path / "client.yaml"
    path.write_text("model_names: [gpt-4.1-mini, claude-haiku-4-5]\nmax_new_tokens: 9\n")
    assert [model.name for model in LLMClient.from_yaml(path)._state.settings.models] == [
        "gpt-4.1-mini",
        "claude-haiku-4-5",
    ]
    with pytest.raises(ConfigError, match="temprature"):
        LLMClient.from_dict({"model": "gpt-4.1-mini", "temprature": 0.5})
    with pytest.raises(ConfigError, match="model_names"):
        LLMClient.from_dict({"temperature": 0.5})


def test_tools_are_checked_before_anything_is_sent(emulator, make_client):
    client, tool = make_client(), Tool(name="weather", parameters={"city": {"type": "string"}})
    with pytest.raises(TypeError, match=r"str.*Tool"):
        quiet(client, ["x"], tools=["weather"])
    with pytest.raises(ConfigError, match="'weather' names no tool"):
        quiet(client, ["x"], tool_choice="weather")
    with pytest.raises(ConfigError, match="needs tools"):
        quiet(client, ["x"], tool_choice="required")
    assert emulator.calls == 0
    (response,) = quiet(client, ["x"], tools=tool, tool_choice="weather")
    assert response.tool_calls[0].name == "weather"


def test_a_class_instead_of_a_cache_is_refused():
    with pytest.raises(TypeError, match=r"SqliteCache\(\.\.\.\)"):
        LLMClient("gpt-4.1-mini", cache=SqliteCache)


def test_a_warning_points_at_the_line_that_called(emulator, make_client):
    with pytest.warns(ModelWarning) as caught:
        quiet(make_client("gpt-99-mini"), ["a"])
    assert caught[0].filename == __file__


def test_an_exception_has_no_cause_that_is_not_its_own(make_client):
    def prompts():
        raise RuntimeError("the reader broke")
        yield

    with pytest.raises(RuntimeError, match="the reader broke") as caught:
        quiet(make_client(), prompts())
    assert caught.value.__context__ is None
