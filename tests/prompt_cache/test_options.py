"""What ``cache=`` may be."""

import pytest

from lm_deluge.errors import ConfigError
from lm_deluge.prompt_cache import PATTERNS, PromptCache, as_prompt_cache


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_patterns_name_stands_for_its_defaults(pattern):
    assert as_prompt_cache(pattern) == PromptCache(pattern=pattern)


def test_a_value_stays_itself():
    value = PromptCache(pattern="conversation", ttl="1h", warm="prefill")
    assert as_prompt_cache(value) is value
    assert as_prompt_cache(None) is None
    assert PromptCache() == PromptCache(pattern="system_and_tools", ttl=None, warm=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"pattern": "system"}, "'system' is not a prompt cache pattern"),
        ({"pattern": None}, "needs a pattern"),
        ({"ttl": "2h"}, r"ttl='2h'.*'5m', '30m', '1h', '12h'"),
        ({"ttl": 300}, "ttl=300"),
        ({"warm": "yes"}, "warm='yes'.*'prefill'"),
        ({"warm": 1}, "warm=1"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(arguments, words):
    with pytest.raises(ConfigError, match=words):
        PromptCache(**arguments)


@pytest.mark.parametrize("value", ["system", 5, object(), {}])
def test_anything_else_is_refused(value):
    with pytest.raises(ConfigError, match="not a prompt cache pattern"):
        as_prompt_cache(value)
