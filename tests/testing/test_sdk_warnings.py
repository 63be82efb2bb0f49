"""Warnings of the SDKs that judge our work fail no test; all others do."""

import types
import warnings

import pytest

CODE = "import warnings\ndef ask(): warnings.warn('the model is deprecated', DeprecationWarning, stacklevel=2)"


def module(name: str) -> types.ModuleType:
    made = types.ModuleType(name)
    exec(CODE, vars(made))
    return made


@pytest.mark.parametrize("name", ["anthropic.resources.messages", "openai", "mistralai.client", "openrouter.chat"])
def test_an_sdk_may_warn(name: str, sdk_warnings: None) -> None:
    module(name).ask()


@pytest.mark.parametrize("name", ["lm_deluge.testing.app", "anthropical"])
def test_nobody_else_may(name: str, sdk_warnings: None) -> None:
    with pytest.raises(DeprecationWarning, match="deprecated"):
        module(name).ask()
    with pytest.raises(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_a_warning_keeps_its_place(sdk_warnings: None) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        module("lm_deluge.testing.app").ask()
    assert caught[0].filename == __file__
