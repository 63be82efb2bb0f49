"""What a client is given, from a mapping or a YAML file, and what a call is given, checked before it begins."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lm_deluge._optional import require
from lm_deluge.config import SamplingParams
from lm_deluge.engine import RunOptions
from lm_deluge.errors import ConfigError
from lm_deluge.prompt_cache import check_pattern
from lm_deluge.tool import Tool

__all__ = ["at_least_one", "from_mapping", "read_yaml", "run_options"]


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
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no mapping of LLMClient's arguments.")
    return config


def run_options(
    tools: Sequence[Tool] | None,
    cache: str | None,
    tool_choice: str | None,
    output_schema: Mapping[str, Any] | None,
) -> RunOptions:
    """What holds for one call.

    Raises:
        ConfigError: an unknown pattern, or a tool choice that fits no tool.
        TypeError: something else than tools among the tools.
    """
    if isinstance(tools, Tool):
        tools = [tools]
    given = tuple(tools or ())
    for tool in given:
        if not isinstance(tool, Tool):
            raise TypeError(f"tools holds a {type(tool).__name__}; use Tool(...) or Tool.from_function(...).")
    if tool_choice not in (None, "auto", "none") and tool_choice not in ("required", *(tool.name for tool in given)):
        known = ", ".join(tool.name for tool in given) or "none"
        raise ConfigError(f"tool_choice={tool_choice!r} names no tool of this call; its tools are: {known}.")
    if tool_choice == "required" and not given:
        raise ConfigError("tool_choice='required' needs tools=.")
    return RunOptions(
        tools=given,
        tool_choice=tool_choice,
        output_schema=output_schema,
        pattern=check_pattern(cache),
    )


def at_least_one(name: str, value: int) -> None:
    """Refuse a setting that is not a whole number above 0.

    Raises:
        ConfigError: it is not.
    """
    if value < 1 or value != int(value):
        raise ConfigError(f"{name}={value!r} is not a whole number above 0.")
