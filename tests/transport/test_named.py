"""``transport=`` of a client: an object, a name, or the name that the environment gives."""

import sys

import pytest

from lm_deluge import LLMClient
from lm_deluge.errors import ConfigError
from lm_deluge.transport import AiohttpTransport, AsyncioTransport, MockTransport, as_transport
from lm_deluge.wire import HttpResponse

KINDS = {"asyncio": AsyncioTransport, "aiohttp": AiohttpTransport}


def test_the_default_is_ours():
    for environ in ({}, {"LM_DELUGE_TRANSPORT": ""}, {"LM_DELUGE_TRANSPORT": " "}):
        assert type(as_transport(None, environ)) is AsyncioTransport


@pytest.mark.parametrize("name", KINDS)
def test_a_name_chooses(name):
    assert type(as_transport(name, {})) is KINDS[name]
    assert type(as_transport(None, {"LM_DELUGE_TRANSPORT": name})) is KINDS[name]


def test_what_is_given_has_precedence_over_the_environment():
    assert type(as_transport("asyncio", {"LM_DELUGE_TRANSPORT": "aiohttp"})) is AsyncioTransport
    given = AiohttpTransport()
    assert as_transport(given, {"LM_DELUGE_TRANSPORT": "no such"}) is given


@pytest.mark.parametrize(
    ("given", "environ", "said"),
    [
        ("httpx", {}, "transport='httpx' is not known; use 'aiohttp' or 'asyncio'"),
        ("", {}, "transport='' is not known"),
        (None, {"LM_DELUGE_TRANSPORT": "AIO"}, "LM_DELUGE_TRANSPORT='AIO' is not known; use 'aiohttp' or 'asyncio'"),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(given, environ, said):
    with pytest.raises(ConfigError, match=said):
        as_transport(given, environ)


@pytest.mark.parametrize("given", [5, object(), {"send": 1}])
def test_what_is_no_transport_is_refused(given):
    with pytest.raises(TypeError, match=r"a \w+, which has no method send.*'aiohttp' or 'asyncio'"):
        as_transport(given, {})


def test_where_its_package_is_missing_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ImportError, match=r"transport='aiohttp' needs 'aiohttp'.*pip install aiohttp"):
        as_transport("aiohttp", {})
    with pytest.raises(ImportError, match=r"LM_DELUGE_TRANSPORT='aiohttp' needs 'aiohttp'.*pip install aiohttp"):
        as_transport(None, {"LM_DELUGE_TRANSPORT": "aiohttp"})
    with pytest.raises(ImportError, match=r"AiohttpTransport needs 'aiohttp'.*pip install aiohttp"):
        AiohttpTransport()
    assert type(as_transport("asyncio", {})) is AsyncioTransport


def counted(monkeypatch):
    """The names of the transports that send."""
    used = []
    for kind in KINDS.values():

        async def send(self, request, *, timeout, _send=kind.send):
            used.append(type(self).__name__)
            return await _send(self, request, timeout=timeout)

        monkeypatch.setattr(kind, "send", send)
    return used


@pytest.mark.parametrize("how", ["argument", "environment", "mapping"])
@pytest.mark.parametrize("name", KINDS)
def test_a_client_sends_by_the_transport_that_is_named(emulator, monkeypatch, name, how):
    used = counted(monkeypatch)
    if how == "argument":
        client = LLMClient("gpt-4.1-mini", transport=name)
    elif how == "mapping":
        client = LLMClient.from_dict({"model": "gpt-4.1-mini", "transport": name})
    else:
        monkeypatch.setenv("LM_DELUGE_TRANSPORT", name)
        client = LLMClient("gpt-4.1-mini")
    with client:
        (response,) = client.process_prompts_sync(["hello"], show_progress=False)
    assert response.completion
    assert used == [KINDS[name].__name__]


def test_a_client_refuses_an_unknown_name_when_it_is_made(monkeypatch):
    with pytest.raises(ConfigError, match="transport='curl'"):
        LLMClient("gpt-4.1-mini", transport="curl")
    monkeypatch.setenv("LM_DELUGE_TRANSPORT", "curl")
    with pytest.raises(ConfigError, match="LM_DELUGE_TRANSPORT='curl'"):
        LLMClient("gpt-4.1-mini")
    LLMClient("gpt-4.1-mini", transport=MockTransport(lambda _: HttpResponse(status=200, headers={}, body=b""))).close()
