"""What the options of a command mean to the library: which of them go to the client, to the local cache, and to a call.

An option that was not given is absent everywhere, so that the library's own defaults hold.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from lm_deluge import canonical
from lm_deluge.cache.scope import scope_of
from lm_deluge.cli.prompts import read_json, read_tools
from lm_deluge.cli.rows import Row, read_rows
from lm_deluge.errors import ConfigError
from lm_deluge.prompt import Conversation
from lm_deluge.prompt_cache import PromptCache
from lm_deluge.tool import Tool

__all__ = ["RunSettings", "Settings", "check_needs", "prompt_cache"]

# Options by what takes them: the client, the local cache, a call, and ``PromptCache``.
_SHAPES_ANSWERS = ("model", "base_url", "temperature", "top_p", "max_new_tokens", "json_mode", "reasoning_effort")
_LIMITS = ("max_concurrent_requests", "max_requests_per_minute", "max_tokens_per_minute", "max_attempts")
_CLIENT = (*_SHAPES_ANSWERS, *_LIMITS, "request_timeout", "give_up_after", "single_flight")
_CACHE = ("base", "max_bytes", "cache_key", "scope", "admit", "ttl")
_CALL = ("cache_mode", "max_age", "run_name", "tag")
_PROMPT_CACHE = ("cache_lifetime", "cache_warm", "cache_diagnostics")

_ARGUMENTS = {
    "model": "model_names",
    "tag": "tags",
    "cache_lifetime": "ttl",
    "cache_warm": "warm",
    "cache_diagnostics": "diagnostics",
}
"""What the library calls them, where that is not the same."""

_NEEDS = {"cache": (*_CACHE, "offline", *_CALL), "cache_pattern": _PROMPT_CACHE}
"""Options that mean nothing without another one."""

_WARM: dict[str, bool | Literal["prefill"]] = {"always": True, "never": False, "prefill": "prefill"}
"""What ``PromptCache`` calls the values of ``--cache-warm``."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the commands that read prompts have in common. Fields are named like options.

    None is standard input as the source and standard output as ``out``. ``cache_options`` are arguments of the local
    cache, ``client`` those of ``LLMClient`` without the cache, and ``call`` those of a call of the client.
    """

    source: Path | None = None
    field: str | None = None
    limit: int | None = None
    system: str | None = None
    tools: Path | None = None
    samples: int | None = None
    cache: str | None = None
    cache_options: Mapping[str, Any] = {}
    client: Mapping[str, Any] = {}
    call: Mapping[str, Any] = {}

    @classmethod
    def of(cls, options: Mapping[str, Any], **more: Any) -> Self:
        """The settings that a command was given."""
        prompts = options.get("prompts")
        # Of a prompt alone, it is not known what would be asked beside it.
        scope = scope_of(options["scope"], otherwise="request" if options["model"] else "conversation")
        fields = {
            "source": None if prompts is None or str(prompts) == "-" else prompts,
            "cache_options": {**_arguments(options, _CACHE), "scope": scope},
            "client": _arguments(options, _CLIENT),
            "call": _arguments(options, _CALL),
        }
        same = {name: options[name] for name in cls.__struct_fields__ if name in options}
        return cls(**{**same, **fields, **more})

    @property
    def source_name(self) -> str:
        """The source, for messages."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def each(self) -> int:
        """How many answers each row gets."""
        return self.samples or 1

    def rows(self) -> Iterator[Row]:
        """The rows of the source."""
        return read_rows(self.source, field=self.field, limit=self.limit)

    def system_prompt(self) -> Conversation | None:
        """What prompts begin with that have no system message."""
        return None if self.system is None else Conversation.system(self.system)

    def read_tools(self) -> list[Tool]:
        """The tools of all prompts."""
        return [] if self.tools is None else read_tools(self.tools)


class RunSettings(Settings, frozen=True, kw_only=True):
    """A ``deluge run``, as it was asked for."""

    out: Path | None
    overwrite: bool = False
    with_prompt: bool = False
    prompt_cache: PromptCache | None = None
    progress: Literal["rich", "tqdm", "manual", "none"] = "rich"

    @property
    def cache_mode(self) -> str:
        """How the local cache is used."""
        return str(self.call.get("cache_mode") or os.environ.get("LM_DELUGE_CACHE_MODE") or "use")

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that stand for all that shapes the answers beside the prompts."""
        # Results of different ones do not mix in one file.
        names = (_ARGUMENTS.get(option, option) for option in _SHAPES_ANSWERS)
        shape = {name: self.client[name] for name in names if name in self.client}
        tools = [] if self.tools is None else read_json(self.tools)
        return hashlib.sha256(canonical.encode([shape, self.system, tools])).hexdigest()[:8]


def check_needs(options: Mapping[str, Any], *needed: str) -> None:
    """Refuse options that mean nothing without another one."""
    for option in needed:
        if options[option] is None:
            for name in _given(options, _NEEDS[option]):
                raise ConfigError(f"--{name.replace('_', '-')} needs --{option.replace('_', '-')}.")


def prompt_cache(pattern: str | None, options: Mapping[str, Any]) -> PromptCache | None:
    """What is asked of the provider's prompt cache; None without a pattern."""
    if pattern is None:
        return None
    if pattern == "none":
        raise ConfigError("'none' is no pattern: it is what happens without --cache-pattern.")
    arguments = _arguments(options, _PROMPT_CACHE)
    if "warm" in arguments:
        arguments["warm"] = _WARM[arguments["warm"]]
    return PromptCache(**{"pattern": pattern, **arguments})


def _arguments(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {_ARGUMENTS.get(option, option): options[option] for option in _given(options, names)}


def _given(options: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Those of the options that the user gave. A flag that was not given is False, a list None or empty; 0 is given."""
    given = {name: options.get(name) for name in names}
    return [name for name, value in given.items() if value is not None and value is not False and value != []]
