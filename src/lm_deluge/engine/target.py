"""What is the same for all calls of a run to one model, worked out once, and what is worth saying about it."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec

from lm_deluge.engine.report import Tokens
from lm_deluge.engine.settings import RunOptions, Settings
from lm_deluge.engine.state import EngineState
from lm_deluge.engine.warnings import Warnings
from lm_deluge.errors import CredentialWarning, ModelWarning
from lm_deluge.models import Model, is_elsewhere, is_here
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import (
    CachePlan,
    Planner,
    Prefix,
    PrefixIndexes,
    PromptCache,
    advise_ahead,
    nothing_read,
    unsupported,
)
from lm_deluge.providers import Reply, build, wire_format
from lm_deluge.request import Parameters, Request
from lm_deluge.wire import HttpRequest

__all__ = ["Target", "planner_for"]

_NO_PLAN = CachePlan()


class Target:
    """Calls of a run to one model.

    Attributes:
        model: which one.
        parameters: what is asked beside the prompts; None where neither cache needs it.
        credential: the API key, if there is one.
    """

    def __init__(self, state: EngineState, options: RunOptions, model: Model, parameters: Parameters | None) -> None:
        self.model = model
        self.parameters = parameters
        self.credential = state.credential(model)
        self._settings = state.settings
        self._options = options
        self._state = state
        self._answers = 0
        self._used = Tokens()
        self._planner: Planner | None = None
        if parameters is not None:
            self._planner = planner_for(
                state.settings, options, options.prompt_cache, model, parameters, indexes=state.caching.indexes
            )

    def __repr__(self) -> str:
        return f"Target({self.model.name})"

    def learn(self, prompt: Conversation) -> None:
        """See a prompt that will be asked, so that what it shares with others is known before the first of them is."""
        if self._planner is not None:
            self._planner.learn([prompt])

    def plan(self, prompt: Conversation, *, now: float) -> CachePlan:
        """What the request for a prompt says about the provider's cache, at ``now`` on the monotonic clock."""
        if self._planner is None:
            return _NO_PLAN
        plan = self._planner.plan(prompt)
        self._state.caching.advisor.see(self.model, self._planner.cache, self._options.tools, prompt, plan)
        rate = self._state.limits.calls_per_minute(prompt.count_tokens())
        return self._state.caching.routing_keys.spread(plan, self.model.caching.key_limit, now, rate=rate)

    def prefixes(self, plan: CachePlan) -> tuple[Prefix, ...]:
        """The prefixes that requests wait for until the first of them has written it."""
        return plan.prefixes if self._planner is not None and self._planner.warms else ()

    def build(self, prompt: Conversation, plan: CachePlan, *, stream: bool) -> HttpRequest:
        """The HTTP request for a prompt."""
        return build(self._request(prompt, plan), credential=self.credential, stream=stream)

    def can_prefill(self, prompt: Conversation, plan: CachePlan) -> bool:
        """Whether a prompt's prefix is to be written by a request without an answer, if others wait for it."""
        if self._planner is None or self._planner.cache.warm != "prefill" or not plan.is_long_enough:
            return False
        return wire_format(self.model).can_prefill(self._request(prompt, plan))

    def build_prefill(self, prompt: Conversation, plan: CachePlan) -> HttpRequest:
        """The HTTP request that only writes a prompt's prefix."""
        request = msgspec.structs.replace(self._request(prompt, plan), prefill=True)
        return build(request, credential=self.credential)

    def _request(self, prompt: Conversation, plan: CachePlan) -> Request:
        settings, options = self._settings, self._options
        return Request(
            conversation=prompt,
            model=self.model,
            params=settings.params,
            tools=options.tools,
            tool_choice=options.tool_choice,
            output_schema=options.output_schema,
            breakpoints=plan.breakpoints,
            automatic_cache=plan.automatic_cache,
            cache_ttl=plan.cache_ttl,
            cache_tail=plan.cache_tail,
            prompt_cache_key=plan.prompt_cache_key,
            extra_headers=settings.extra_headers,
            extra_body=settings.extra_body,
            diagnose=options.prompt_cache is not None and options.prompt_cache.diagnostics,
            previous_response_id=self._answer_before(prompt, plan),
        )

    def _answer_before(self, prompt: Conversation, plan: CachePlan) -> str | None:
        if self._planner is None or not self._planner.cache.diagnostics:
            return None
        return self._state.caching.advisor.answer_before(self.model, self._planner.cache, prompt, plan)

    def warn(self, warnings: Warnings) -> None:
        """Say what is known before the first request: what none will hold, and what is wrong with what is asked."""
        options, model = self._options, self.model
        self._warn_of_address(warnings)
        has_schema = options.output_schema is not None
        for name in wire_format(model).dropped_parameters(model, self._settings.params, has_schema=has_schema):
            warnings.warn(
                ("dropped", model.name, name),
                f"{model.name} does not take {name}; it is left out of its requests. Remove it to silence this.",
                ModelWarning,
            )
        cache = options.prompt_cache
        if cache is not None:
            today = datetime.fromtimestamp(self._state.clock.time(), UTC).date()
            found = [unsupported(cache, model)] if self._planner is None else advise_ahead(cache, model, today=today)
            self._state.caching.advisor.say(warnings, model, found)

    def _warn_of_address(self, warnings: Warnings) -> None:
        """Say that a credential goes where others may read it, once for each client and address."""
        address, settings = self.model.base_url, self._settings
        told = self._state.caching.told
        if address in told or not (self.credential or self._state.secret_headers):
            return
        parts = urlsplit(address)
        if parts.scheme == "http" and not is_here(address):
            headers = ", ".join(self._state.secret_headers)
            what = "The API key goes" if self.credential else f"{headers} (extra_headers) goes"
            warnings.warn(
                ("http", address),
                f"{what} to {parts.hostname} over http://, where others on the way can read it, and the prompts. "
                "Use https://, or send no credential.",
                CredentialWarning,
            )
        if settings.address_from and settings.api_key is None and self.credential and is_elsewhere(address):
            names = " or ".join(self.model.service.key_env)
            warnings.warn(
                ("address", address),
                f"The key of {names} goes to {parts.hostname}, because {settings.address_from} says so. "
                "Its owner gets the key. If you trust the file, silence this by passing api_key.",
                CredentialWarning,
            )
        told.add(address)

    def learn_from(self, reply: Reply, prompt: Conversation, plan: CachePlan) -> str | None:
        """See an answer. Returns why nothing of the prompt was read from the provider's cache, if the provider says."""
        self._answers += 1
        self._used.add(reply.usage)
        if self._planner is None:
            return None
        is_read = reply.usage is not None and reply.usage.has_cache_hit
        self._state.caching.advisor.answered(
            self.model, self._planner.cache, prompt, plan, reply.response_id, is_read=is_read
        )
        return None if is_read else reply.cache_miss_reason

    def advise(self, warnings: Warnings) -> None:
        """Say what is wrong with how prompts are cached, which providers never do."""
        planner, advisor = self._planner, self._state.caching.advisor
        found = [nothing_read(self._options.prompt_cache, self.model, self._used.total(), self._answers)]
        if planner is not None:
            found += advisor.look(self.model, planner.cache, answers=self._answers, reserved=planner.reserved)
        advisor.say(warnings, self.model, found)


def planner_for(
    settings: Settings,
    options: RunOptions,
    cache: PromptCache | None,
    model: Model,
    parameters: Parameters,
    *,
    indexes: PrefixIndexes | None = None,
) -> Planner | None:
    """A planner for a run to one model; None where nothing is to be done for its provider's cache, or can be."""
    if cache is None or not model.caching.takes_instructions:
        return None
    return Planner(
        cache,
        model,
        options.tools,
        scope=parameters.fingerprint,
        reserved=int("cache_control" in settings.extra_body),
        indexes=indexes,
    )
