"""From the name of a model to where and how its requests go."""

import re
from collections.abc import Mapping
from datetime import date
from typing import NoReturn
from urllib.parse import urlsplit

import msgspec

from lm_deluge.errors import ConfigError, UnknownModelError
from lm_deluge.models.caching import OPENAI_KEYS, USUAL_MINIMUM, Caching
from lm_deluge.models.catalogue import CATALOGUE, RETIREMENTS, canonical_claude, undated
from lm_deluge.models.services import GENERIC, SERVICES, Service
from lm_deluge.models.traits import traits_of

__all__ = ["Model", "resolve"]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model and the service that answers for it.

    Attributes:
        name: as the user gave it.
        api_name: as it is sent.
        service: who answers.
        base_url: where, with environment variables and ``base_url=`` taken into account; never ends in a slash.
        reasoning: whether the model is known to take a reasoning effort.
        rejects: sampling parameters that it answers with an error. Ask ``rejected``, which minds the effort.
        sampling_efforts: reasoning efforts at which it takes them after all; None is a request that names no effort.
        min_cache_tokens: the shortest prefix that the provider's prompt cache keeps, in tokens; None if not known.
        caching: what the prompt cache takes for this model.
        known: whether our catalogue holds the name. Models of other makers than OpenAI and Anthropic never are, so
            False is no reason to doubt a name.
        retired: the day on which its maker stops serving it, where that has been announced. It may lie ahead.
    """

    name: str
    api_name: str
    service: Service
    base_url: str
    reasoning: bool = False
    rejects: frozenset[str] = frozenset()
    sampling_efforts: frozenset[str | None] = frozenset()
    min_cache_tokens: int | None = None
    caching: Caching = Caching()
    known: bool = False
    retired: date | None = None

    @property
    def cache_minimum(self) -> int:
        """The shortest prefix that the prompt cache keeps, in tokens; the usual one where that is not known."""
        return USUAL_MINIMUM if self.min_cache_tokens is None else self.min_cache_tokens

    def rejected(self, reasoning_effort: str | None = None) -> frozenset[str]:
        """Sampling parameters that the model rejects in a request with this effort (None: the request names none)."""
        return frozenset() if reasoning_effort in self.sampling_efforts else self.rejects


def resolve(name: str, *, base_url: str | None = None, environ: Mapping[str, str]) -> Model:
    """Tell from a model's name where its requests go and how.

    ``gpt-*``, ``o3`` and the like, ``claude-*``, ``gemini-*`` and ``grok-*`` go to their makers; ``provider/model``
    goes to that provider, which gets everything after the first slash. A name that the catalogue lacks is sent as it
    is, so new models work at once.

    With ``base_url`` the name still tells the wire format (Anthropic's for ``claude-*`` and ``anthropic/...``, Chat
    Completions otherwise), and a bare name is sent exactly as given, because it belongs to the server at that
    address. A name whose prefix is not a provider's (``meta-llama/...``) is sent whole. A ``base_url`` that is a known
    service's own means that service.

    Args:
        name: a model's name.
        base_url: the address to use instead of the service's own. For Chat Completions it includes ``/v1``; for
            Anthropic it need not.
        environ: environment variables; ``OPENAI_BASE_URL`` and ``ANTHROPIC_BASE_URL`` mean what they mean to the
            official SDKs. Ignored when ``base_url`` is given.

    Raises:
        UnknownModelError: no provider can be told from the name.
        ConfigError: the address is not an HTTP URL.
    """
    if base_url is None:
        service, api_name = _by_name(name)
        if service.base_url_env and (moved := environ.get(service.base_url_env, "").strip()):
            address = _base_of(_http_address(moved, service.base_url_env), service)
            service = msgspec.structs.replace(service, base_url=address)
    else:
        service, api_name = _by_address(name, _http_address(base_url, "base_url"))
    return _model(name, api_name, service)


def _by_name(name: str) -> tuple[Service, str]:
    provider, slash, rest = name.partition("/")
    if slash and rest and provider in SERVICES:
        return SERVICES[provider], _api_name(rest, SERVICES[provider])
    if not slash and (service := _family(name)):
        return service, _api_name(name, service)
    _unknown(name)


def _by_address(name: str, address: str) -> tuple[Service, str]:
    if not name:
        _unknown(name)
    for service in SERVICES.values():
        if _base_of(address, service) == service.base_url:
            return service, _api_name(name.removeprefix(f"{service.name}/"), service)
    provider, slash, rest = name.partition("/")
    # "openai/gpt-oss-120b" is also the name under which local servers publish OpenAI's open weights.
    if slash and rest and provider in SERVICES and not rest.startswith("gpt-oss"):
        service, api_name = SERVICES[provider], rest
    else:
        service, api_name = msgspec.structs.replace(_family(name) or GENERIC, name="custom"), name
    moved = msgspec.structs.replace(service, base_url=_base_of(address, service), base_url_env=None, key_required=False)
    return moved, api_name


def _api_name(name: str, service: Service) -> str:
    return canonical_claude(name) if service.claude_ids else name


def _family(name: str) -> Service | None:
    return next((each for each in SERVICES.values() if each.own_names and re.match(each.own_names, name)), None)


def _model(name: str, api_name: str, service: Service) -> Model:
    model_id = api_name.rpartition("/")[2]  # gateways put the maker before the id
    if model_id.startswith("claude-"):
        model_id = canonical_claude(model_id)
    traits = traits_of(model_id)
    return Model(
        name=name,
        api_name=api_name,
        service=service,
        base_url=service.base_url,
        reasoning=traits.reasoning,
        rejects=frozenset() if service.ignores_unsupported else traits.rejects,
        sampling_efforts=traits.sampling_efforts,
        min_cache_tokens=traits.min_cache_tokens,
        caching=_caching(api_name, service, traits.caching),
        known=model_id in CATALOGUE or undated(model_id) in CATALOGUE,
        retired=RETIREMENTS.get(model_id) or RETIREMENTS.get(undated(model_id)),
    )


def _caching(api_name: str, service: Service, own: Caching | None) -> Caching:
    """What the prompt cache takes. A model's own rules hold where its maker's do, and not at a gateway."""
    if service.caches_for is not None and api_name.partition("/")[0] not in service.caches_for:
        return Caching()
    return own if own is not None and service.caching == OPENAI_KEYS else service.caching


def _http_address(url: str, setting: str) -> str:
    """``url`` without a final slash, if it can be the start of a request's address."""
    url = url.strip()
    # Neither the message nor its cause repeats the value: a mistyped address may hold a credential.
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ConfigError(f"{setting} is not a URL: its host or port is malformed") from None
    if not valid or not url.isprintable() or " " in url:
        raise ConfigError(f"{setting} is not an HTTP address; give one such as 'http://localhost:8000/v1'")
    if "@" in parts.netloc:
        raise ConfigError(f"{setting} holds a user name or password; give the credential as the API key instead")
    if parts.query or parts.fragment:
        raise ConfigError(f"{setting} ends in a query or fragment; give the address alone")
    return url.rstrip("/")


def _base_of(address: str, service: Service) -> str:
    """``address`` in the form that the service's requests start from."""
    return address if service.base_url_has_version else address.removesuffix("/v1")


def _unknown(name: str) -> NoReturn:
    import difflib  # as slow to import as the rest of this package, and wanted for this message alone

    provider, slash, rest = name.partition("/")
    if slash and rest and provider not in SERVICES:
        close = difflib.get_close_matches(provider.lower(), SERVICES, n=3)
        message = f"No provider is called {provider!r} (in {name!r})."
        hint = f" Did you mean {_either(close)}?" if close else f" Known providers: {', '.join(sorted(SERVICES))}."
    else:
        close = difflib.get_close_matches(name.lower(), CATALOGUE, n=3)
        message = f"The provider of model {name!r} cannot be told from its name."
        close = close or [f"{service}/{name}" for service in SERVICES if name.lower().startswith(service)]
        hint = f" Did you mean {_either(close)}?" if close else ""
    raise UnknownModelError(
        f"{message}{hint} Write 'provider/model', such as 'openrouter/meta-llama/llama-3.3-70b-instruct', "
        "or give the address of the server as base_url."
    )


def _either(names: list[str]) -> str:
    return " or ".join(map(repr, names))
