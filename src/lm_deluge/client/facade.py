"""``LLMClient``: the facade over the engine."""

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

import msgspec

from lm_deluge import _overdue as overdue
from lm_deluge._clock import Clock
from lm_deluge._loops import run_here
from lm_deluge.client import ahead
from lm_deluge.client.arguments import RunArguments, from_mapping, read_yaml, run_options
from lm_deluge.client.construction import client_state
from lm_deluge.client.runs import Prompts, Runs
from lm_deluge.client.tasks import Tasks
from lm_deluge.config import Effort, SamplingParams
from lm_deluge.engine import RunOptions
from lm_deluge.engine.settings import REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, parameters_of
from lm_deluge.events import Listener, RunReport
from lm_deluge.progress import ProgressStyle
from lm_deluge.prompt import PromptLike
from lm_deluge.prompt_cache import Estimate, Pattern, PromptCache
from lm_deluge.request import Parameters
from lm_deluge.response import APIResponse
from lm_deluge.transport import Transport, as_transport

if TYPE_CHECKING:
    from lm_deluge.cache.explain import Explanation

__all__ = ["LLMClient"]


class LLMClient:
    """Runs prompts through one or several models.

    ::

        client = LLMClient("gpt-4.1-mini", cache=SqliteCache("my_cache.db"))
        responses = client.process_prompts_sync(["What is 2+2?"])

    Args:
        model_names: a model, or several among which prompts are spread: ``"gpt-4.1-mini"``, ``"claude-haiku-4-5"``,
            ``"openrouter/..."``, or any name together with ``base_url``.
        model_weights: how prompts are spread over several models; evenly by default.
        max_requests_per_minute: HTTP calls that may start in a minute, 1,000 by default; a first minute's worth may
            start at once.
        max_tokens_per_minute: prompt and generated tokens in a minute, 100,000 by default. Set both to what your
            account allows.
        max_concurrent_requests: HTTP calls in flight at once, on each event loop that uses the client.
        max_attempts: calls for one prompt, the first included.
        give_up_after: seconds without a single answer from a model (it refuses, is down, or cannot be reached) after
            which a run stops asking it: the prompts that are left have their error at once, and now and then one of
            them is asked all the same, to see whether it answers again. 300 by default; None never stops.
        request_timeout: seconds for one call, from connecting to the last byte.
        sampling_params: temperature and the like. The arguments below it replace single values.
        cache: a local cache: one of ``lm_deluge.cache``, or any object with ``get(prompt)`` and
            ``put(prompt, response)``, synchronous or asynchronous.
        single_flight: let identical prompts share one call: in this client, and among all threads and processes that
            share the local cache: processes where it is SQLite or Redis, threads elsewhere. Without it, duplicates each
            make a call until the first of them has finished.
        extra_headers: sent with every call; they win over ours. Their values count as secrets, and are masked where a
            server repeats them, but for a few that are known to say what is asked, such as ``anthropic-beta``.
        public_headers: names of further ones whose values are no secrets.
        extra_body: merged into every request body; it wins over ours.
        base_url: the server to talk to instead of the provider's own.
        api_key: the credential; by default that of the provider's environment variable, read when it is needed.
        progress: how progress is shown: ``"rich"``, ``"tqdm"``, or ``"manual"`` for plain lines in logs.
        listeners: called with each event of each run (see ``lm_deluge.events``).
        transport: what sends HTTP: ``"asyncio"``, ``"aiohttp"`` (extra ``aiohttp``), or an object with the methods of
            ``lm_deluge.transport.Transport``, which takes settings such as a proxy. By default the one that
            ``LM_DELUGE_TRANSPORT`` names, else ``"asyncio"``.
        clock: what tells the time and waits; for tests.

    Raises:
        UnknownModelError: the provider of a model name cannot be told.
        ConfigError: another argument has no meaning.
        TypeError: ``cache`` has no ``get`` and ``put``, or ``transport`` no ``send``.
        ImportError: the package that a transport needs is missing.
    """

    def __init__(
        self,
        model_names: str | Sequence[str],
        *,
        model_weights: Sequence[float] | None = None,
        max_requests_per_minute: float = REQUESTS_PER_MINUTE,
        max_tokens_per_minute: float = TOKENS_PER_MINUTE,
        max_concurrent_requests: int = 225,
        max_attempts: int = 5,
        give_up_after: float | None = 300,
        request_timeout: float = 30,
        sampling_params: SamplingParams | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_new_tokens: int | None = None,
        json_mode: bool | None = None,
        reasoning_effort: Effort | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        cache: Any = None,
        single_flight: bool = False,
        extra_headers: Mapping[str, str] | None = None,
        public_headers: Collection[str] = (),
        extra_body: Mapping[str, Any] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        progress: ProgressStyle = "rich",
        listeners: Sequence[Listener] = (),
        transport: Transport | str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._state = client_state(
            model_names,
            model_weights=model_weights,
            max_requests_per_minute=max_requests_per_minute,
            max_tokens_per_minute=max_tokens_per_minute,
            max_concurrent_requests=max_concurrent_requests,
            max_attempts=max_attempts,
            give_up_after=give_up_after,
            request_timeout=request_timeout,
            sampling_params=sampling_params,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            json_mode=json_mode,
            reasoning_effort=reasoning_effort,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            cache=cache,
            single_flight=single_flight,
            extra_headers=extra_headers,
            public_headers=public_headers,
            extra_body=extra_body,
            base_url=base_url,
            api_key=api_key,
            transport=as_transport(transport, os.environ),
            clock=clock,
        )
        self._runs = Runs(self._state, progress=progress, listeners=listeners)
        self._tasks = Tasks()
        self.cache = cache

    @property
    def last_report(self) -> RunReport | None:
        """What the last ``process_prompts_*`` did and cost; None before the first has ended."""
        return self._runs.last

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """A client from a mapping of this class's arguments; ``model_names`` may also be called ``model``.

        Raises:
            ConfigError: an unknown name, or no model.
        """
        arguments = from_mapping(config, {"model_names", *(cls.__init__.__kwdefaults__ or ())})
        return cls(arguments.pop("model_names"), **arguments)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """A client from a YAML file of this class's arguments. Needs ``pyyaml`` (extra ``yaml``).

        Raises:
            ConfigError: the file holds no mapping, or an unknown name.

        Warns:
            CredentialWarning: before the first call, if the file has a key of the environment sent to an address that
                is not its service's.
        """
        config = read_yaml(path)
        client = cls.from_dict(config)
        if config.get("base_url"):
            client._state.settings = msgspec.structs.replace(client._state.settings, address_from=str(path))
        return client

    # Many prompts

    @overload
    def process_prompts_sync(
        self,
        prompts: Prompts,
        *,
        return_completions_only: Literal[False] = False,
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> list[APIResponse]: ...
    @overload
    def process_prompts_sync(
        self,
        prompts: Prompts,
        *,
        return_completions_only: Literal[True],
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> list[str | None]: ...
    def process_prompts_sync(
        self,
        prompts: Prompts,
        *,
        return_completions_only: bool = False,
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> list[APIResponse] | list[str | None]:
        """``process_prompts_async`` for code that is not asynchronous.

        Works in a script, in a thread, and where an event loop already runs (a notebook).
        """
        settled = self._options("process_prompts_sync", options)
        responses = run_here(lambda: self._runs.collect(prompts, settled, show_progress=show_progress))
        return [response.completion for response in responses] if return_completions_only else responses

    @overload
    async def process_prompts_async(
        self,
        prompts: Prompts | AsyncIterable[PromptLike],
        *,
        return_completions_only: Literal[False] = False,
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> list[APIResponse]: ...
    @overload
    async def process_prompts_async(
        self,
        prompts: Prompts | AsyncIterable[PromptLike],
        *,
        return_completions_only: Literal[True],
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> list[str | None]: ...
    async def process_prompts_async(
        self,
        prompts: Prompts | AsyncIterable[PromptLike],
        *,
        return_completions_only: bool = False,
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> list[APIResponse] | list[str | None]:
        """One response for each prompt, in the order of the prompts.

        Args:
            prompts: strings, messages, conversations or OpenAI-style message lists, in any iterable; a single prompt
                is a run of one.
            return_completions_only: return the text of each answer (None for an error) instead of responses.
            show_progress: show how far the run is.
            options: see ``RunArguments``: ``tools``, ``tool_choice``, ``output_schema``; ``cache``, a pattern of the
                provider's prompt cache such as ``"system_and_tools"``; ``cache_mode``, ``max_age`` and ``on_miss`` for
                the local cache, which itself is an argument of the client; ``samples``, ``run_name`` and ``tags``.

        Raises:
            ConfigError: a value that has no meaning, such as an unknown pattern.
            CacheMissError: with ``cache_mode="offline"`` and ``on_miss="raise"``, at the first miss.
            TypeError: ``prompts`` is no iterable of prompts.
        """
        settled = self._options("process_prompts_async", options)
        responses = await self._runs.collect(prompts, settled, show_progress=show_progress)
        return [response.completion for response in responses] if return_completions_only else responses

    async def process_prompts_iter(
        self,
        prompts: Prompts | AsyncIterable[PromptLike],
        *,
        show_progress: bool = True,
        **options: Unpack[RunArguments],
    ) -> AsyncGenerator[APIResponse, None]:
        """Responses as they finish; ``response.id`` is the position of the prompt.

        Memory stays bounded however many prompts there are: the iterable, or asynchronous iterable, is read as fast as
        its prompts are worked on. The arguments are those of ``process_prompts_async``.
        """
        settled = self._options("process_prompts_iter", options)
        async with self._runs.over(prompts, settled, show_progress=show_progress) as run:
            while ready := await run.take():
                for response in ready:
                    yield response

    # Single prompts

    async def start(
        self,
        prompt: PromptLike,
        **options: Unpack[RunArguments],
    ) -> APIResponse:
        """The response to one prompt. ``options`` are those of ``process_prompts_async``, but for ``samples``."""
        settled = self._options("start", options)
        return await self._runs.one(prompt, settled, self._tasks.new_id())

    def start_nowait(
        self,
        prompt: PromptLike,
        **options: Unpack[RunArguments],
    ) -> int:
        """Start one prompt and return its task id, for ``wait_for`` and its like. Needs a running event loop."""
        settled = self._options("start_nowait", options)
        self._state.check_open()
        return self._tasks.start(lambda task_id: self._runs.one(prompt, settled, task_id))

    async def wait_for(self, task_id: int) -> APIResponse:
        """The response of a task that ``start_nowait`` started. Each can be waited for once.

        Raises:
            ConfigError: there is no such task, or it was waited for before.
        """
        return await self._tasks.wait_for(task_id)

    async def wait_for_all(self, task_ids: Sequence[int] | None = None) -> list[APIResponse]:
        """The responses of several tasks, in their order; of all that are left by default."""
        return await self._tasks.wait_for_all(task_ids)

    def as_completed(self, task_ids: Sequence[int] | None = None) -> AsyncIterator[tuple[int, APIResponse]]:
        """Task ids and responses as they finish; of all that are left by default."""
        return self._tasks.as_completed(task_ids)

    # The local cache, and accounts

    def parameters(self, **options: Unpack[RunArguments]) -> tuple[Parameters, ...]:
        """What is asked beside a prompt, of each of the client's models, in a call with these options."""
        return tuple(parameters_of(self._state.settings, self._options("parameters", options)).values())

    def explain(self, prompt: PromptLike, **options: Unpack[RunArguments]) -> "Explanation":
        """Whether the local cache has an answer to a prompt, and if not, why: the nearest entries and how they differ.

        Asks no provider. Blocks while the cache is searched. ``str(explanation)`` is for people.

        Args:
            prompt: as for ``process_prompts_async``.
            options: those with which the prompt would be asked.

        Raises:
            ConfigError: the client has no cache, or one that this package does not know.
            PromptError: the prompt cannot be sent.
        """
        return ahead.explain(self._state, self.cache, prompt, self._options("explain", options))

    def estimate(
        self,
        prompts: Prompts,
        *,
        patterns: Pattern | PromptCache | Sequence[Pattern | PromptCache] | None = None,
        output_tokens: int | None = None,
        **options: Unpack[RunArguments],
    ) -> Estimate:
        """What a run would cost with each way of caching prompts at the provider. Asks no provider, and blocks.

        ``print(client.estimate(prompts))`` shows a table; ``estimate.best`` is the cheapest, and
        ``cache=estimate.best.cache`` asks for it.

        Args:
            prompts: as for ``process_prompts_async``. All of them are held in memory.
            patterns: the ways to compare with none at all, one or several: patterns or ``PromptCache``; by default the
                one in ``cache=``, and without that all patterns.
            output_tokens: tokens of an answer, on average; None leaves answers out of the bills.
            options: those with which the prompts would be asked. What the local cache has costs nothing.

        Raises:
            ConfigError: the client has several models, or a value has no meaning.
            TypeError: ``prompts`` is no iterable of prompts.
        """
        settled = self._options("estimate", options)
        return ahead.estimate(self._state, prompts, settled, patterns, output_tokens=output_tokens)

    def report(self) -> RunReport:
        """What all finished runs of this client did and cost, single prompts included."""
        return self._runs.total

    # Closing

    async def aclose(self) -> None:
        """Close the client: nothing more is asked. Closing twice is fine.

        What has arrived is kept. In runs that still go on, calls in flight and prompts that were not asked are errors
        that say so; a new run raises ``ClosedError``. The cache is the caller's to close.
        """
        self._state.close("The client was closed before this was asked. Make a new one to go on.")
        overdue.flush()
        await self._state.transport.aclose()

    def close(self) -> None:
        """``aclose`` for code that is not asynchronous."""
        run_here(self.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        names = [model.name for model in self._state.settings.models]
        return f"LLMClient({names[0] if len(names) == 1 else names!r}, cache={self.cache!r})"

    def _options(self, function: str, given: RunArguments) -> RunOptions:
        return run_options(function, has_cache=self._state.cache is not None, **given)
