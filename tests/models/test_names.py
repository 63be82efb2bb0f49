"""Where a name sends its requests, under which id, and what the model is known to take."""

import subprocess
import sys
import traceback
from datetime import date

import msgspec
import pytest

from lm_deluge.errors import ConfigError, UnknownModelError
from lm_deluge.models import SERVICES, credential, resolve
from lm_deluge.models.catalogue import CATALOGUE

LOCAL = "http://127.0.0.1:8000/v1"


def resolved(name, **options):
    return resolve(name, environ={}, **options)


@pytest.mark.parametrize(
    ("name", "service", "api_name"),
    [
        ("gpt-4.1-mini", "openai", "gpt-4.1-mini"),
        ("o3", "openai", "o3"),
        ("o4-mini-2025-04-16", "openai", "o4-mini-2025-04-16"),
        ("chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
        ("claude-haiku-5-5", "anthropic", "claude-haiku-5-5"),
        ("gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
        ("grok-4", "xai", "grok-4"),
        ("openai/gpt-4.1", "openai", "gpt-4.1"),
        ("anthropic/claude-3.5-haiku", "anthropic", "claude-3-5-haiku-20241022"),
        ("openrouter/anthropic/claude-3.5-haiku", "openrouter", "anthropic/claude-3.5-haiku"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        ("fireworks/accounts/fireworks/models/kimi-k2", "fireworks", "accounts/fireworks/models/kimi-k2"),
        ("deepseek/deepseek-chat", "deepseek", "deepseek-chat"),
        # not released yet
        ("gpt-9-mini", "openai", "gpt-9-mini"),
        ("claude-opus-7", "anthropic", "claude-opus-7"),
        ("o9-large", "openai", "o9-large"),
    ],
)
def test_a_name_tells_the_service_and_the_id(name, service, api_name):
    model = resolved(name)
    assert (model.service, model.api_name, model.name) == (SERVICES[service], api_name, name)
    assert model.base_url == SERVICES[service].base_url


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("claude-3-haiku", "claude-3-haiku-20240307"),
        ("claude-3-opus", "claude-3-opus-20240229"),
        ("claude-3-5-sonnet", "claude-3-5-sonnet-20241022"),
        ("claude-3.5-sonnet", "claude-3-5-sonnet-20241022"),
        ("claude-3.7-sonnet", "claude-3-7-sonnet-20250219"),
        ("claude-sonnet-3.7", "claude-3-7-sonnet-20250219"),
        ("claude-4-sonnet", "claude-sonnet-4-20250514"),
        ("claude-sonnet-4", "claude-sonnet-4-20250514"),
        ("claude-opus-4.1", "claude-opus-4-1"),
        ("claude-4.5-sonnet", "claude-sonnet-4-5"),
        ("claude-haiku-4.5", "claude-haiku-4-5"),
        ("claude-4.5-haiku-20251001", "claude-haiku-4-5-20251001"),
        ("claude-5.5-opus", "claude-opus-5-5"),
        # already ids
        ("claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20240620"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-latest"),
        ("claude-sonnet-4-0", "claude-sonnet-4-0"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-20250514"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5-20251101"),
        ("claude-mythos-preview", "claude-mythos-preview"),
        ("claude-2.1", "claude-2.1"),
    ],
)
def test_spellings_of_claude(written, sent):
    assert resolved(written).api_name == sent


def test_every_catalogued_name_is_known_and_stable_under_resolving():
    for name in CATALOGUE:
        model = resolved(name)
        assert model.known, name
        assert resolved(model.api_name).api_name == model.api_name, name
    assert resolved("gpt-4.1-mini-2025-04-14").known
    assert not resolved("gpt-9-mini").known


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        ("GPT-4.1-mini", ["'gpt-4.1-mini'", "provider/model", "base_url"]),
        ("clade-haiku-5-5", ["'claude-haiku-5-5'"]),
        ("foo-large", ["'foo-large'", "provider/model", "base_url"]),
        ("grok/grok-4", ["'grok'", "'groq'"]),
        ("acme/foo", ["'acme'", "openrouter", "together", "base_url"]),
        ("gpt-oss-120b", ["provider/model"]),  # open weights: many serve them, OpenAI does not
        ("openai/", ["'openai/'"]),
        ("", ["''"]),
    ],
)
def test_an_unknown_name_says_what_to_write(name, hints):
    with pytest.raises(UnknownModelError) as caught:
        resolved(name)
    assert isinstance(caught.value, ValueError)
    for hint in hints:
        assert hint in str(caught.value)


# ---- addresses


@pytest.mark.parametrize(
    ("name", "service", "wire", "api_name"),
    [
        ("my-finetune", "custom", "openai-chat", "my-finetune"),
        ("gpt-4.1", "custom", "openai-chat", "gpt-4.1"),
        ("claude-3.5-sonnet", "custom", "anthropic", "claude-3.5-sonnet"),  # a gateway has names of its own
        ("meta-llama/Llama-3.3-70B-Instruct", "custom", "openai-chat", "meta-llama/Llama-3.3-70B-Instruct"),
        ("openai/gpt-oss-20b", "custom", "openai-chat", "openai/gpt-oss-20b"),
        ("openai/gpt-4.1", "openai", "openai-chat", "gpt-4.1"),
        ("anthropic/claude-opus-5", "anthropic", "anthropic", "claude-opus-5"),
        ("groq/llama-3.3-70b-versatile", "groq", "openai-chat", "llama-3.3-70b-versatile"),
    ],
)
def test_a_given_address(name, service, wire, api_name):
    model = resolved(name, base_url="http://127.0.0.1:8000/")
    assert (model.service.name, model.service.wire, model.api_name) == (service, wire, api_name)
    assert model.base_url == model.service.base_url == "http://127.0.0.1:8000"
    assert not model.service.key_required


def test_a_given_address_keeps_what_the_family_needs():
    assert resolved("gpt-5", base_url=LOCAL).service.max_tokens_field == "max_completion_tokens"
    assert resolved("my-finetune", base_url=LOCAL).service.max_tokens_field == "max_tokens"
    assert resolved("claude-opus-5", base_url=LOCAL).service.caching.breakpoint_field == "cache_control"
    assert resolved("my-finetune", base_url=LOCAL).service.price_provider is None


def test_the_address_of_a_known_service_means_that_service():
    model = resolved("anthropic/claude-sonnet-4.5", base_url="https://openrouter.ai/api/v1/")
    assert (model.service, model.api_name) == (SERVICES["openrouter"], "anthropic/claude-sonnet-4.5")
    assert resolved("openrouter/x/y", base_url="https://openrouter.ai/api/v1").api_name == "x/y"
    model = resolved("claude-3.5-haiku", base_url="https://api.anthropic.com/v1")
    assert (model.service, model.api_name) == (SERVICES["anthropic"], "claude-3-5-haiku-20241022")


def test_v1_is_kept_for_chat_completions_and_not_doubled_for_anthropic():
    assert resolved("gpt-4.1", base_url=LOCAL).base_url == LOCAL
    assert resolved("claude-opus-5", base_url=LOCAL + "/").base_url == "http://127.0.0.1:8000"


def test_environment_moves_a_service_and_an_argument_overrides_it():
    environ = {"OPENAI_BASE_URL": "http://localhost:1/v1/", "ANTHROPIC_BASE_URL": "http://localhost:2"}
    moved = resolve("gpt-4.1", environ=environ)
    assert (moved.base_url, moved.service.name, moved.service.key_required) == ("http://localhost:1/v1", "openai", True)
    assert resolve("claude-3-haiku", environ=environ).base_url == "http://localhost:2"
    assert resolve("claude-3-haiku", environ=environ).api_name == "claude-3-haiku-20240307"
    assert resolve("groq/x", environ=environ).base_url == SERVICES["groq"].base_url
    assert resolve("gpt-4.1", base_url=LOCAL, environ=environ).base_url == LOCAL


def test_an_empty_variable_counts_as_unset():
    environ = {"OPENAI_BASE_URL": "", "ANTHROPIC_BASE_URL": " ", "GEMINI_API_KEY": "", "GOOGLE_API_KEY": "k2"}
    assert resolve("gpt-4.1", environ=environ).base_url == "https://api.openai.com/v1"
    assert resolve("claude-opus-5", environ=environ).base_url == "https://api.anthropic.com"
    assert credential(SERVICES["gemini"], environ) == "k2"
    assert credential(SERVICES["openai"], {"OPENAI_API_KEY": "  "}) is None
    assert credential(SERVICES["openai"], {"OPENAI_API_KEY": " sk-1\n"}) == "sk-1"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "localhost",
        "ftp://example.com",
        "http://",
        "http://:8000",
        "http://host:port/v1",
        "http://user:hunter2",
        "http://host:99999",
        "http://[::1",
        "http://exam ple.com",
        "http://example.com/v1\nHost: evil",
        "https://user:hunter2@example.com/v1",
        "https://hunter2@example.com",
        "https://example.com/v1?key=hunter2",
        "https://example.com/v1#hunter2",
    ],
)
def test_a_useless_address_is_refused_without_being_repeated(url):
    for name in ("gpt-4.1", "claude-opus-5", "groq/x", "my-finetune"):
        with pytest.raises(ConfigError, match="base_url") as caught:
            resolved(name, base_url=url)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value, limit=0))


def test_a_useless_variable_is_named():
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        resolve("gpt-4.1", environ={"OPENAI_BASE_URL": "localhost:8000"})


def test_ipv6_and_paths_are_addresses():
    assert resolved("m", base_url="http://[::1]:8000/v1").base_url == "http://[::1]:8000/v1"
    assert resolved("m", base_url="https://gateway.example/team/openai/v1").base_url.endswith("/team/openai/v1")


# ---- what a model takes


@pytest.mark.parametrize(
    ("name", "plain", "none", "low"),
    [  # whether temperature is refused: with no effort named, with effort "none", with effort "low"
        ("gpt-4.1-mini", False, False, False),
        ("gpt-4o", False, False, False),
        ("gpt-5-chat-latest", False, False, False),
        ("gpt-5", True, False, True),
        ("gpt-5-mini-2025-08-07", True, False, True),
        ("gpt-5.1", False, False, True),
        ("gpt-5.2", False, False, True),
        ("gpt-5.2-pro", True, False, True),
        ("gpt-5.3-chat-latest", True, False, True),
        ("gpt-5.1-codex", True, False, True),
        ("gpt-5.4-mini", False, False, True),
        ("gpt-5.5", True, False, True),
        ("gpt-6-luna", True, False, True),
        ("gpt-9-mini", True, False, True),
        ("o3", True, True, True),
        ("o4-mini", True, True, True),
        ("claude-3-5-sonnet", False, False, False),
        ("claude-sonnet-4-6", False, False, False),
        ("claude-sonnet-4-20250514", False, False, False),
        ("claude-opus-4-6", False, False, False),
        ("claude-opus-4-7", True, True, True),
        ("claude-haiku-4-5-20251001", False, False, False),
        ("claude-haiku-5-5", True, True, True),
        ("claude-sonnet-5", True, True, True),
        ("claude-opus-7", True, True, True),
        ("openrouter/openai/gpt-5", False, False, False),  # OpenRouter leaves out what a model does not take
    ],
)
def test_temperature_is_rejected_where_the_provider_says_so(name, plain, none, low):
    model = resolved(name)
    assert [("temperature" in model.rejected(effort)) for effort in (None, "none", "low")] == [plain, none, low]


def test_models_that_take_an_effort():
    takes = {name for name in CATALOGUE if resolved(name).reasoning}
    assert {"o1", "o3-mini", "gpt-5", "gpt-5.2", "gpt-6.1-sol", "claude-opus-4-5", "claude-haiku-5-5"} <= takes
    assert not takes & {"gpt-4.1", "gpt-4o", "gpt-5-chat-latest", "claude-haiku-4-5", "claude-sonnet-4-5"}


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("claude-fable-5-1", 512),
        ("claude-mythos-5", 512),
        ("claude-opus-5", 512),
        ("claude-opus-5-5", 512),
        ("claude-sonnet-5-5", 512),
        ("claude-haiku-5-5", 512),
        ("claude-fable-5-2", None),  # the guide does not say
        ("claude-opus-7", None),
        ("claude-opus-4-8", 1024),
        ("claude-sonnet-5", 1024),
        ("claude-sonnet-4-6", 1024),
        ("claude-sonnet-4-5-20250929", 1024),
        ("claude-sonnet-4-20250514", 1024),
        ("claude-opus-4-1-20250805", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-opus-4-6", 4096),
        ("claude-opus-4-5-20251101", 4096),
        ("claude-haiku-4.5", 4096),
        ("claude-3-7-sonnet", 1024),
        ("claude-3-5-haiku", 2048),
        ("openrouter/anthropic/claude-haiku-4.5", 4096),
        ("gpt-5.6-sol", 1024),
        ("gpt-6-luna", 1024),
        ("gpt-5.5", None),
        ("gpt-4.1", None),
        ("groq/openai/gpt-oss-120b", None),
    ],
)
def test_the_shortest_prefix_that_is_cached(name, tokens):
    assert resolved(name).min_cache_tokens == tokens


def test_announced_retirements_hold_for_snapshots_too():
    assert resolved("claude-sonnet-4-5-20250929").retired == date(2026, 11, 30)
    assert resolved("claude-4-sonnet").retired == date(2026, 6, 15)
    assert resolved("gpt-4o-2024-11-20").retired == date(2027, 1, 14)
    assert resolved("gpt-4o-2024-05-13").retired == date(2026, 10, 23)  # a date of its own
    assert resolved("claude-haiku-5-5").retired is None


def test_services_are_complete():
    for name, service in SERVICES.items():
        assert service.name == name
        assert service.base_url.startswith("https://")
        assert not service.base_url.endswith("/")
        assert service.key_env
        assert service.price_provider
    assert not SERVICES["anthropic"].base_url.endswith("/v1")


def test_a_model_is_a_value():
    model = resolved("gpt-5")
    assert model == resolved("gpt-5")
    assert len({model, resolved("gpt-5"), resolved("gpt-4.1")}) == 2
    with pytest.raises(AttributeError):
        model.api_name = "other"
    assert msgspec.json.decode(msgspec.json.encode(model.service), type=type(model.service)) == model.service


def test_importing_loads_no_price_list():
    script = (
        "import sys, lm_deluge.models as m; m.resolve('gpt-4.1', environ={});"
        "sys.exit(bool({'genai_prices', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
