"""A client's state from the arguments of ``LLMClient``, checked before anything begins."""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lm_deluge._clock import Clock, SystemClock
from lm_deluge.cache.user import adapt
from lm_deluge.client.arguments import at_least_one, checked_headers
from lm_deluge.config import SamplingParams
from lm_deluge.engine import ClientState, Settings
from lm_deluge.errors import ConfigError
from lm_deluge.models import resolve
from lm_deluge.schedule import Choice, Limits, RetryPolicy
from lm_deluge.transport import Transport

__all__ = ["client_state"]


def client_state(
    model_names: str | Sequence[str],
    *,
    model_weights: Sequence[float] | None,
    max_requests_per_minute: float,
    max_tokens_per_minute: float,
    max_concurrent_requests: int,
    max_attempts: int,
    give_up_after: float | None,
    request_timeout: float,
    sampling_params: SamplingParams | None,
    cache: Any,
    single_flight: bool,
    extra_headers: Mapping[str, str] | None,
    public_headers: Collection[str],
    extra_body: Mapping[str, Any] | None,
    base_url: str | None,
    api_key: str | None,
    transport: Transport,
    clock: Clock | None,
    **changes: Any,
) -> ClientState:
    """What the runs of a client share. ``LLMClient`` documents the arguments.

    Args:
        changes: single values that replace those of ``sampling_params``, but for those that are None.

    Raises:
        UnknownModelError: the provider of a model name cannot be told.
        ConfigError: another argument has no meaning.
        TypeError: ``cache`` has no ``get`` and ``put``.
    """
    params = (sampling_params or SamplingParams()).with_changes(
        **{name: value for name, value in changes.items() if value is not None}
    )
    names = [model_names] if isinstance(model_names, str) else list(model_names or ())
    at_least_one("max_attempts", max_attempts)
    at_least_one("max_concurrent_requests", max_concurrent_requests)
    if not request_timeout > 0:
        raise ConfigError(f"request_timeout is {request_timeout!r}; a number of seconds above 0 is needed.")
    if give_up_after is not None and not give_up_after > 0:
        raise ConfigError(f"give_up_after is {give_up_after!r}; a number of seconds above 0 is needed, or None.")
    settings = Settings(
        models=tuple(resolve(name, base_url=base_url, environ=os.environ) for name in names),
        params=params,
        retry=RetryPolicy(max_attempts=max_attempts, longest_asked=give_up_after),
        max_concurrent=max_concurrent_requests,
        request_timeout=request_timeout,
        single_flight=bool(single_flight),
        api_key=api_key,
        extra_headers=checked_headers(extra_headers),
        public_headers=frozenset(name.lower() for name in public_headers),
        extra_body=dict(extra_body or {}),
    )
    return ClientState(
        settings,
        cache=adapt(cache),
        limits=Limits(
            requests_per_minute=max_requests_per_minute,
            tokens_per_minute=max_tokens_per_minute,
            give_up_after=give_up_after,
        ),
        choice=Choice(settings.models, model_weights),
        transport=transport,
        clock=SystemClock() if clock is None else clock,
    )
