"""A credential that goes where others may read it is warned of: once for each client and address."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_deluge import LLMClient
from lm_deluge.errors import ConfigError, CredentialWarning
from lm_deluge.models import is_elsewhere, is_here
from lm_deluge.wire import HttpResponse

KEY = "secret-0123456789"
FAR = [
    "http://gateway.example.com/v1",
    "HTTP://GATEWAY.example.com/v1",
    "http://10.1.2.3:8000/v1",
    "http://host.docker.internal:4000/v1",
    "http://gateway:4000/v1",
    "http://localhost.example.com/v1",
    "http://127.0.0.1.example.com/v1",
    "http://[2001:db8::1]/v1",
]
HERE = [
    "http://127.0.0.1:8000/v1",
    "http://127.9.9.9/v1",
    "http://localhost:8000/v1",
    "http://LOCALHOST/v1",
    "http://localhost./v1",
    "http://x.localhost/v1",
    "http://[::1]:8000/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://0.0.0.0:8000/v1",
]


class Here:
    """A transport without a network."""

    def __init__(self) -> None:
        self.calls = 0

    async def send(self, request: Any, *, timeout: float) -> HttpResponse:
        self.calls += 1
        return HttpResponse(status=200, headers={}, body=b'{"choices":[{"message":{"content":"hi"}}]}')

    async def aclose(self) -> None:
        pass


def told(client: LLMClient, runs: int = 2) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(runs):
            responses = client.process_prompts_sync(["a", "b"], show_progress=False)
            assert [response.completion for response in responses] == ["hi", "hi"]
    texts = [str(each.message) for each in found if issubclass(each.category, CredentialWarning)]
    assert not any(KEY in text for text in texts)
    return texts


def of(url: str | None = None, **arguments: Any) -> LLMClient:
    return LLMClient("m" if url else "gpt-4.1-mini", base_url=url, transport=Here(), **arguments)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("url", FAR)
def test_a_key_over_http_to_another_machine_is_warned_of_once(url: str) -> None:
    (text,) = told(of(url, api_key=KEY))
    assert "over http://" in text
    assert "https://" in text
    assert url.split("/")[2].lower().rsplit(":", 1)[0].strip("[]") in text
    assert not is_here(url)


@pytest.mark.parametrize("url", [*HERE, "https://gateway.example.com/v1"])
def test_this_machine_and_https_are_not(url: str) -> None:
    assert told(of(url, api_key=KEY)) == []
    assert is_here(url) == (url in HERE)


def test_without_a_credential_there_is_none() -> None:
    assert told(of(FAR[0])) == []
    assert told(of(FAR[0], extra_headers={"OpenAI-Beta": "x", "X-Team": "a"}, public_headers=["x-team"])) == []


def test_headers_may_hold_the_credential() -> None:
    (text,) = told(of(FAR[0], extra_headers={"X-Gateway-Password": KEY}))
    assert text.startswith("X-Gateway-Password (extra_headers) goes to gateway.example.com")


def test_the_environment_counts_like_the_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", FAR[0])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert len(told(of())) == 1
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example.com/v1")
    assert told(of()) == []


def test_each_client_and_each_of_its_addresses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one.example/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://two.example")
    for _ in range(2):
        models = ["gpt-4.1-mini", "gpt-4.1", "claude-haiku-4-5"]
        client = LLMClient(models, model_weights=[1, 0, 0], api_key=KEY, transport=Here())
        assert len(told(client)) == 2


def test_a_warning_that_is_an_error_comes_before_the_first_call() -> None:
    client = of(FAR[0], api_key=KEY)
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error", CredentialWarning)
            with pytest.raises(CredentialWarning):
                client.process_prompts_sync(["a"], show_progress=False)
    assert client._state.transport.calls == 0  # type: ignore[attr-defined]


def from_file(path: Path, text: str) -> LLMClient:
    path.write_text(text)
    client = LLMClient.from_yaml(path)
    client._state.transport = Here()
    return client


def test_a_file_that_has_the_users_key_sent_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("yaml")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "c.yaml"
    for model in ("gpt-4.1-mini", "openai/gpt-4.1", "m"):
        (text,) = told(from_file(path, f"model: {model}\nbase_url: https://evil.example/v1\n"))
        assert "OPENAI_API_KEY goes to evil.example" in text
        assert str(path) in text
    quiet = [
        "base_url: https://evil.example/v1\napi_key: my-own-key",
        "base_url: http://localhost:8000/v1",
        "base_url: https://api.openai.com/v1",
        "temperature: 0",
    ]
    for rest in quiet:
        assert told(from_file(path, f"model: gpt-4.1-mini\n{rest}\n")) == []
    monkeypatch.delenv("OPENAI_API_KEY")
    assert told(from_file(path, "model: m\nbase_url: https://evil.example/v1\n")) == []


def test_what_is_elsewhere() -> None:
    assert is_elsewhere("https://evil.example/v1")
    assert is_elsewhere("https://api.openai.com.evil.example/v1")
    assert not is_elsewhere("https://api.openai.com/v1")
    assert not is_elsewhere("https://api.anthropic.com")
    assert not is_elsewhere("http://127.0.0.1/v1")


_KEY: Any = "sk-proj-Ab3dEfGh1jKlMnOp"


@pytest.mark.parametrize(
    "set_wrongly",
    [
        lambda: LLMClient(_KEY),
        lambda: LLMClient("gpt-4.1-mini", reasoning_effort=_KEY),
        lambda: LLMClient("gpt-4.1-mini").process_prompts_sync(["p"], cache_mode=_KEY),
        lambda: LLMClient("gpt-4.1-mini").process_prompts_sync(["p"], cache=_KEY),
    ],
)
def test_a_key_in_the_place_of_a_setting_is_not_repeated(set_wrongly: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as refused:
        set_wrongly()
    assert _KEY not in str(refused.value)


@pytest.mark.parametrize("headers", [{"X-A": 5}, "Bearer abcdefgh", {7: "x"}])
def test_headers_that_are_no_text_are_refused_at_once(headers: object) -> None:
    with pytest.raises(ConfigError, match="extra_headers"):
        LLMClient("gpt-4.1-mini", extra_headers=headers)  # type: ignore[arg-type]
