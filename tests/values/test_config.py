"""Sampling parameters: what is out of range is refused where it is written."""

import msgspec
import pytest

from lm_deluge.config import SamplingParams
from lm_deluge.errors import ConfigError

NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (None, 0, 0.7, 2, 2.0)),
        *(("top_p", value) for value in (None, 0, 0.5, 1)),
        *(("max_new_tokens", value) for value in (None, 1, 1_000_000)),
        *(("thinking_budget", value) for value in (None, 1, 1_024)),
        *(("seed", value) for value in (None, 0, -1, 2**40)),
        *(("reasoning_effort", value) for value in (None, "none", "minimal", "low", "medium", "high", "xhigh", "max")),
    ],
)
def test_values_in_range(name, value):
    params = SamplingParams(**{name: value})
    assert getattr(params, name) == value
    assert params.with_changes(json_mode=True).with_changes(json_mode=False) == params


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, 2.1, NAN, float("inf"), "0.5", True, [1])),
        *(("top_p", value) for value in (-0.1, 1.1, NAN, "1", False)),
        *(("max_new_tokens", value) for value in (0, -1, 1.5, 100.0, "100", True)),
        *(("thinking_budget", value) for value in (0, -5, 1.5, "low")),
        *(("seed", value) for value in (1.5, "1", True)),
        *(("reasoning_effort", value) for value in ("", "High", "extreme", 3)),
        *(("stop", value) for value in (5, [5], ["a", None], [""], "", {"a": 1})),
        ("top_logprobs", 5),
    ],
)
def test_values_out_of_range(name, value):
    with pytest.raises(ConfigError, match=name):
        SamplingParams(**{name: value})
    with pytest.raises(ConfigError, match=name):
        SamplingParams().with_changes(**{name: value})


def test_alternatives_need_log_probabilities():
    assert SamplingParams(logprobs=True, top_logprobs=20).top_logprobs == 20
    for value in (-1, 21, 1.5):
        with pytest.raises(ConfigError, match="top_logprobs"):
            SamplingParams(logprobs=True, top_logprobs=value)
    with pytest.raises(ConfigError, match="logprobs=True"):
        SamplingParams(top_logprobs=0)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("END", ("END",)), (["a", "b"], ("a", "b")), (("a",), ("a",)), ((), ()), ([], ()), (None, ())],
)
def test_stop_strings(given, kept):
    assert SamplingParams(stop=given).stop == kept


def test_an_unknown_parameter_is_named_with_those_that_exist():
    with pytest.raises(
        ConfigError, match=r"'temprature' is not a sampling parameter; known are temperature, top_p.*extra_body"
    ):
        SamplingParams().with_changes(temprature=0.5)


def test_parameters_are_frozen_and_come_back_from_json():
    params = SamplingParams(temperature=0.5, stop=["a"], reasoning_effort="low")
    with pytest.raises(AttributeError):
        params.temperature = 1
    assert msgspec.json.decode(msgspec.json.encode(params), type=SamplingParams) == params
    assert hash(params) == hash(SamplingParams(temperature=0.5, stop=("a",), reasoning_effort="low"))
    with pytest.raises(msgspec.ValidationError, match="temperature"):
        msgspec.json.decode(b'{"temperature": 9}', type=SamplingParams)
