"""All wire formats. A new one is a package beside these, and a line here."""

from collections.abc import Mapping
from types import MappingProxyType

from lm_deluge.models import Model
from lm_deluge.providers._format import WireFormat
from lm_deluge.providers.anthropic.format import AnthropicMessages
from lm_deluge.providers.openai_chat.format import ChatCompletions

__all__ = ["FORMATS", "wire_format"]

FORMATS: Mapping[str, WireFormat] = MappingProxyType(
    {each.name: each for each in (AnthropicMessages(), ChatCompletions())}
)
"""Every wire format by its name."""


def wire_format(model: Model) -> WireFormat:
    """The format in which requests to a model are written."""
    return FORMATS[model.service.wire]
