"""What a client is given, from a mapping or a YAML file, and what a call is given, checked before it begins."""

import operator
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, cast, get_args

from lm_deluge._json import is_deep, spelled_out
from lm_deluge._optional import require
from lm_deluge.config import SamplingParams
from lm_deluge.engine import CacheMode, OnMiss, RunOptions
from lm_deluge.errors import ConfigError
from lm_deluge.prompt_cache import Pattern, PromptCache, as_prompt_cache
from lm_deluge.tool import Tool

__all__ = ["RunArguments", "at_least_one", "checked_headers", "from_mapping", "read_yaml", "run_options"]

T = TypeVar("T")

_MODE_VARIABLE = "LM_DELUGE_CACHE_MODE"
_MOST_YAML_VALUES = 1_000_000


def from_mapping(config: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Arguments by their names; ``model`` and ``models`` stand for ``model_names``.

    Raises:
        ConfigError: an unknown name, or no model.
    """
    arguments = dict(config)
    for alias in ("model", "models"):
        if alias in arguments and "model_names" not in arguments:
            arguments["model_names"] = arguments.pop(alias)
    if "model_names" not in arguments:
        raise ConfigError("The configuration names no model; add model_names.")
    for name in arguments:
        if name not in known:
            raise ConfigError(f"The configuration has {name!r}, which LLMClient does not know.")
    if isinstance(arguments.get("sampling_params"), Mapping):
        arguments["sampling_params"] = SamplingParams().with_changes(**arguments["sampling_params"])
    return arguments


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file. Needs ``pyyaml`` (extra ``yaml``).

    Raises:
        ConfigError: the file holds none.
        OSError: it cannot be read.
    """
    yaml = require("yaml", extra="yaml", purpose="LLMClient.from_yaml")
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deep to be read.") from error
    except (yaml.YAMLError, ValueError) as error:  # the latter for a number that Python refuses to convert
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if is_deep(config):
        raise ConfigError(f"{path} is nested too deep to be read.")
    if spelled_out(config) > _MOST_YAML_VALUES:
        raise ConfigError(f"{path} names its own parts so often that it has millions of values.")
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no mapping of LLMClient's arguments.")
    return config


class RunArguments(TypedDict, total=False):
    """What each call of a client may be told besides its prompts. All of it is optional.

    Attributes:
        tools: tools that the model may call.
        cache: how the provider should cache prompts: a pattern such as ``"system_and_tools"``, or a ``PromptCache``.
            Prompts that share a prefix then wait until the first of them has written it, where the provider promises
            that it is read. The local cache is an argument of the client.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or a tool's name.
        output_schema: a JSON schema that answers have to follow.
        cache_mode: how the local cache is used. ``"use"``, the default; ``"refresh"``: ask again, and store the new
            answer; ``"bypass"``: as if there were none; ``"offline"``: no provider is asked, so a miss is an error
            response that says what the nearest entry is and how it differs. The environment variable
            ``LM_DELUGE_CACHE_MODE`` sets the default.
        max_age: seconds; older entries of the local cache are misses.
        on_miss: ``"error"``, or ``"raise"`` to end an offline run with ``CacheMissError`` at the first miss.
        samples: how many independent answers each prompt gets, 1 by default. They come in order, prompt by prompt;
            ``response.sample`` counts from 0. The local cache keeps each, so asking for 8 after 5 buys 3.
        run_name: what the run is called in the accounts that the local cache keeps. Each ``process_prompts_*`` is a
            run. Single prompts of one client with the same name and tags are one run, until the client is closed.
        tags: words by which the run and its entries can be found there.
    """

    tools: Sequence[Tool] | None
    cache: Pattern | PromptCache | None
    tool_choice: str | None
    output_schema: Mapping[str, Any] | None
    cache_mode: CacheMode | None
    max_age: float | None
    on_miss: OnMiss
    samples: int
    run_name: str | None
    tags: Sequence[str]


def run_options(function: str, *, has_cache: bool, **given: Unpack[RunArguments]) -> RunOptions:
    """What holds for one call of ``function``.

    Raises:
        ConfigError: a value has no meaning.
        TypeError: an unknown argument, or something else than tools among the tools.
    """
    for name in given:
        if name not in RunArguments.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    tools = _tools(given.get("tools") or ())
    return RunOptions(
        tools=tools,
        tool_choice=_tool_choice(given.get("tool_choice"), tools),
        output_schema=given.get("output_schema"),
        prompt_cache=as_prompt_cache(given.get("cache")),
        cache_mode=_cache_mode(given.get("cache_mode"), has_cache=has_cache),
        max_age=_max_age(given.get("max_age")),
        on_miss=_one_of("on_miss", given.get("on_miss") or "error", OnMiss),
        samples=1 if given.get("samples") is None else _samples(given["samples"], function),
        run_name=_run_name(given.get("run_name")),
        tags=_tags(given.get("tags") or ()),
    )


def _tools(tools: Sequence[Tool] | Tool) -> tuple[Tool, ...]:
    given = (tools,) if isinstance(tools, Tool) else tuple(tools)
    for tool in given:
        if not isinstance(tool, Tool):
            raise TypeError(f"tools holds a {type(tool).__name__}; use Tool(...) or Tool.from_function(...).")
    return given


def _tool_choice(choice: str | None, tools: Sequence[Tool]) -> str | None:
    if choice not in (None, "auto", "none") and choice not in ("required", *(tool.name for tool in tools)):
        known = ", ".join(tool.name for tool in tools) or "none"
        raise ConfigError(f"tool_choice={choice!r} names no tool of this call; its tools are: {known}.")
    if choice == "required" and not tools:
        raise ConfigError("tool_choice='required' needs tools=.")
    return choice


def _cache_mode(mode: CacheMode | None, *, has_cache: bool) -> CacheMode:
    name = "cache_mode"
    if mode is None:
        mode = cast("CacheMode", os.environ.get(_MODE_VARIABLE, "").strip() or "use")
        name = _MODE_VARIABLE if mode != "use" else name
    _one_of(name, mode, CacheMode)
    if mode == "offline" and not has_cache:
        raise ConfigError(f"{name}='offline' has nothing to answer from: there is no local cache.")
    return mode


def _max_age(seconds: object) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigError(f"max_age={seconds!r} is no time; give seconds above 0, or cache_mode='refresh'.")
    return float(seconds)


def _samples(count: int, function: str) -> int:
    at_least_one("samples", count)
    if count > 1 and function.startswith("start"):
        raise ConfigError(f"{function} gives one answer; samples= is for process_prompts_*.")
    return int(count)


def _run_name(name: object) -> str | None:
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigError(f"run_name={name!r} is not a name.")
    return name


def _tags(tags: object) -> tuple[str, ...]:
    if isinstance(tags, str):
        tags = [tags]
    if not isinstance(tags, Collection) or not all(isinstance(tag, str) and tag for tag in tags):
        raise ConfigError(f"tags={tags!r} is not a list of words.")
    return tuple(tags)


def _one_of(name: str, value: T, known: Any) -> T:
    if value not in get_args(known):
        raise ConfigError(f"{name}={value!r} is not known; use {', '.join(map(repr, get_args(known)))}.")
    return value


def at_least_one(name: str, value: Any) -> None:
    """Refuse a setting that is not a whole number above 0.

    Raises:
        ConfigError: it is not.
    """
    try:
        whole = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = 0
    if whole < 1:
        raise ConfigError(f"{name} is {value!r}; a whole number above 0 is needed.")


def checked_headers(headers: Any) -> dict[str, str]:
    """Headers as they are sent.

    Raises:
        ConfigError: they are no mapping of text to text. The message repeats no value.
    """
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigError("extra_headers is no mapping; give {name: value}.")
    for name, value in headers.items():
        if type(name) is not str or type(value) is not str:
            raise ConfigError(f"extra_headers has a {type(value).__name__} under {name!r}; names and values are text.")
    return dict(headers)
