"""A client's arguments from a mapping or a YAML file."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lm_deluge._optional import require
from lm_deluge.config import SamplingParams
from lm_deluge.errors import ConfigError

__all__ = ["from_mapping", "read_yaml"]


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
