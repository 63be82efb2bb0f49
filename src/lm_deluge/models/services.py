"""The services that answer requests: for each, its address, its wire format, its key variable and its quirks.

A service that speaks a wire format we already have is a row of this table and nothing else.
"""

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from lm_deluge.models import caching
from lm_deluge.models.caching import Caching

__all__ = ["GENERIC", "SERVICES", "Service", "credential", "is_elsewhere", "is_here"]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One API endpoint family.

    Attributes:
        name: the prefix in ``provider/model``, or ``"custom"`` for a server known only by its ``base_url``.
        own_names: how names begin that are its alone, as a regular expression; None for a service whose models need the
            prefix. Open weights (gpt-oss, Llama, DeepSeek, ...) are served by many.
        claude_ids: whether it takes Anthropic's own ids alone, so that names as people write them have to become those.
        wire: the wire format it speaks.
        base_url: where it is, as in the official SDKs; never ends in a slash.
        base_url_has_version: whether that ends in ``/v1`` or its like.
        base_url_env: the environment variable that moves it, if its SDK has one with this meaning.
        key_env: environment variables that may hold the API key, in order of preference.
        key_required: whether a request without a key is refused. A server given by ``base_url`` may take any.
        price_provider: its id in ``genai-prices``; None when its prices are not known.
        caching: what its prompt cache takes; a model may have rules of its own.
        caches_for: makers whose models take that, as their names begin; None for all.
        max_tokens_field: the field that limits the answer's length.
        ignores_unsupported: whether parameters that a model does not take are ignored rather than refused.
        seed_field: the field for the seed.
        takes_stream_options: whether usage at the end of a stream has to be asked for; where it comes by itself, the
            field for it is refused.
    """

    name: str
    own_names: str | None = None
    claude_ids: bool = False
    wire: Literal["openai-chat", "anthropic"] = "openai-chat"
    base_url: str
    base_url_has_version: bool = True
    base_url_env: str | None = None
    key_env: tuple[str, ...]
    key_required: bool = True
    price_provider: str | None = None
    caching: Caching = Caching()
    caches_for: frozenset[str] | None = None
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    ignores_unsupported: bool = False
    seed_field: Literal["seed", "random_seed"] = "seed"
    takes_stream_options: bool = True


_ROWS = (
    Service(
        name="anthropic",
        own_names="claude-",
        claude_ids=True,
        wire="anthropic",
        base_url="https://api.anthropic.com",
        base_url_has_version=False,
        base_url_env="ANTHROPIC_BASE_URL",
        key_env=("ANTHROPIC_API_KEY",),
        price_provider="anthropic",
        caching=caching.ANTHROPIC,
    ),
    Service(
        name="openai",
        own_names=r"gpt-(?!oss)|chatgpt-|o\d",
        base_url="https://api.openai.com/v1",
        base_url_env="OPENAI_BASE_URL",
        key_env=("OPENAI_API_KEY",),
        price_provider="openai",
        caching=caching.OPENAI_KEYS,
        max_tokens_field="max_completion_tokens",
    ),
    Service(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_env=("CEREBRAS_API_KEY",),
        price_provider="cerebras",
        max_tokens_field="max_completion_tokens",
    ),
    Service(
        name="deepseek",
        base_url="https://api.deepseek.com/v1",
        key_env=("DEEPSEEK_API_KEY",),
        price_provider="deepseek",
    ),
    Service(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env=("FIREWORKS_API_KEY",),
        price_provider="fireworks",
    ),
    Service(
        name="gemini",
        own_names="gemini-",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        price_provider="google",
    ),
    Service(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_env=("GROQ_API_KEY",),
        price_provider="groq",
        max_tokens_field="max_completion_tokens",
    ),
    Service(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_env=("MISTRAL_API_KEY",),
        price_provider="mistral",
        caching=caching.MISTRAL,
        seed_field="random_seed",
        takes_stream_options=False,
    ),
    Service(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_env=("OPENROUTER_API_KEY",),
        price_provider="openrouter",
        caching=caching.OPENROUTER,
        # OpenRouter, prompt caching guide: passed on to these, in their own format; other makers cache by themselves.
        caches_for=frozenset({"anthropic", "google", "openai", "qwen"}),
        ignores_unsupported=True,  # OpenRouter, Claude 4.7 migration guide
    ),
    Service(
        name="together",
        base_url="https://api.together.ai/v1",
        key_env=("TOGETHER_API_KEY",),
        price_provider="together",
    ),
    Service(
        name="xai",
        own_names="grok-",
        base_url="https://api.x.ai/v1",
        key_env=("XAI_API_KEY",),
        price_provider="x-ai",
        caching=caching.XAI,
        max_tokens_field="max_completion_tokens",
    ),
)

SERVICES: Mapping[str, Service] = MappingProxyType({row.name: row for row in _ROWS})
"""Every known service by name."""

GENERIC = Service(name="custom", base_url="", key_env=("OPENAI_API_KEY",), key_required=False)
"""What is assumed of a server known only by its ``base_url``: Chat Completions in its oldest, most widely read form."""


def credential(service: Service, environ: Mapping[str, str]) -> str | None:
    """The API key for ``service`` in ``environ``, or None. An empty variable counts as unset, as in the SDKs."""
    return next((key for name in service.key_env if (key := environ.get(name, "").strip())), None)


def is_here(base_url: str) -> bool:
    """Whether an address is on this machine. Names of containers and of a container's host are other machines."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_loopback or plain.is_unspecified  # 0.0.0.0 is connected to as this machine


def is_elsewhere(base_url: str) -> bool:
    """Whether an address is neither a known service's own nor on this machine."""
    return not is_here(base_url) and all(base_url != service.base_url for service in SERVICES.values())
