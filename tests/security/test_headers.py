"""A header that nobody knows may hold a secret: no digest of it is kept, and what is kept gives the same keys."""

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lm_deluge import Conversation
from lm_deluge.cache import MemoryCache, SqliteCache
from lm_deluge.cache.admin.archive import export, load, rekey
from lm_deluge.cache.admin.housekeeping.verify import verify
from lm_deluge.cache.codec import compress, decode, encode
from lm_deluge.cache.explain.differences import parameter_differences
from lm_deluge.cache.record import unpack_request
from lm_deluge.models import resolve
from lm_deluge.request import Parameters
from lm_deluge.testing import Emulator, Fault
from lm_deluge.wire import HttpRequest

PASSWORD = "hunter2-hunter2"
DIGEST = hashlib.sha256(PASSWORD.encode()).hexdigest()
NAMES = ["X-Gateway-Password", "x-pwd", "X-CORP-LOGIN", "X-Variant", "Referer"]
GPT = resolve("gpt-4.1-mini", environ={})


def whole_digest(headers: dict[str, str]) -> bytes:
    """As all versions make it: from the digest of each value."""
    digests = {name: hashlib.sha256(value.encode()).hexdigest() for name, value in headers.items()}
    return Parameters(model=GPT.name, endpoint=GPT.base_url, extra_headers=digests).digest


@pytest.mark.parametrize("name", NAMES)
def test_only_the_name_of_an_unknown_header_is_kept(name: str) -> None:
    parameters = Parameters.of(GPT, extra_headers={name: PASSWORD, "OpenAI-Beta": "x"})
    assert parameters.extra_headers == {name.lower(): "", "openai-beta": hashlib.sha256(b"x").hexdigest()}
    assert DIGEST not in f"{parameters!r} {msgspec.json.encode(parameters)!r}"
    assert parameters.digest == whole_digest({name.lower(): PASSWORD, "openai-beta": "x"}), "keys do not move"


def test_parameters_without_unknown_headers_are_as_they_were() -> None:
    parameters = Parameters.of(GPT, extra_headers={"OpenAI-Beta": "x", "Authorization": "y"})
    assert parameters.sealed is None
    assert parameters.digest == whole_digest({"openai-beta": "x"})
    assert set(parameters.extra_headers) == {"openai-beta"}


@pytest.mark.parametrize("scope", ["conversation", "request"])
def test_no_digest_reaches_a_cache_or_a_bundle(make_client: Any, tmp_path: Path, scope: Any) -> None:
    with SqliteCache(tmp_path / "c.db", scope=scope) as cache:
        client = make_client(cache=cache, extra_headers={"X-Pwd": PASSWORD})
        client.process_prompts_sync(["p"], show_progress=False)
        export(cache.backend, tmp_path / "b.jsonl")
        (stored,) = cache.backend.scan()
        request = unpack_request(stored.request, cache.backend.read_blobs)
        assert request.parameters is not None
        assert request.parameters.extra_headers == {"x-pwd": ""}
        assert request.parameters.sealed is None, "the key tells requests apart, so not even that is kept"
        with SqliteCache(tmp_path / "other.db", scope=scope) as other:
            report = load(other.backend, tmp_path / "b.jsonl")
            assert report.added == 1
            again = make_client(cache=other, extra_headers={"X-Pwd": PASSWORD})
            assert again.process_prompts_sync(["p"], show_progress=False)[0].local_cache_hit
    for path in tmp_path.iterdir():
        text = path.read_bytes()
        assert PASSWORD.encode() not in text
        assert DIGEST.encode() not in text
        assert bytes.fromhex(DIGEST) not in text


def test_unknown_headers_tell_requests_apart(emulator: Emulator, make_client: Any) -> None:
    cache = MemoryCache(scope="request")
    for variant in ("one", "two"):
        client = make_client(cache=cache, extra_headers={"X-Variant": variant})
        assert [client.process_prompts_sync(["p"], show_progress=False)[0].local_cache_hit for _ in range(2)] == [
            False,
            True,
        ]
    asked = make_client(cache=cache, extra_headers={"X-Variant": "three"})
    explained = str(asked.explain("p"))
    assert "extra_headers: asked values that are not kept, stored others" in explained
    assert not any(hashlib.sha256(word.encode()).hexdigest()[:12] in explained for word in ("one", "two", "three"))


def as_older_versions_stored_it(cache: Any, client: Any) -> bytes:
    """Store an answer with the digest of an unknown header, and return its key."""
    (stored,) = cache.backend.scan()
    prompt = Conversation.user("p")
    old = msgspec.structs.replace(
        client.parameters()[0],
        extra_headers={"x-pwd": DIGEST, "openai-beta": hashlib.sha256(b"x").hexdigest()},
    )
    key = cache._core.key(prompt, cache._core.context(old))
    found = decode(stored.key, stored.value)
    request = {"messages": prompt.messages, "parameters": old, "scope": cache._core.scope}
    cache.backend.delete_many([stored.key])
    entry = cache._core.entry(prompt, found.response, cache._core.context(old))
    value = encode(key, found.response, created=found.created, fingerprint=old.fingerprint)
    data = compress(msgspec.msgpack.encode(request))
    cache.backend.put_many([msgspec.structs.replace(entry, value=value, request=data, refers=(), facts=stored.facts)])
    return key


@pytest.mark.parametrize("scope", ["conversation", "request"])
def test_digests_that_older_versions_stored_are_told_and_left_out(
    make_client: Any, tmp_path: Path, scope: Any, emulator: Emulator
) -> None:
    headers = {"X-Pwd": PASSWORD, "OpenAI-Beta": "x"}
    with SqliteCache(tmp_path / "c.db", scope=scope) as cache:
        client = make_client(cache=cache)
        client.process_prompts_sync(["p"], show_progress=False)
        key = as_older_versions_stored_it(cache, client)
        asked = make_client(cache=cache, extra_headers=headers)
        assert asked.process_prompts_sync(["p"], show_progress=False)[0].local_cache_hit
        export(cache.backend, tmp_path / "b.jsonl")
        assert DIGEST not in (tmp_path / "b.jsonl").read_text(), "a bundle does not pass it on"
        found = verify(cache.backend)
        assert (found.digests, found.is_sound) == (1, True)
        assert "1 entry with digests of headers" in str(found)
        fixed = verify(cache.backend, fix=True)
        assert (fixed.digests, fixed.dropped, fixed.is_sound) == (1, 0, True)
        assert verify(cache.backend).digests == 0
        (stored,) = cache.backend.scan()
        assert stored.key == key
        assert rekey(cache.backend).right == 1
        assert asked.process_prompts_sync(["p"], show_progress=False)[0].local_cache_hit
    assert emulator.calls == 1


def test_old_and_new_entries_of_one_request_do_not_differ() -> None:
    headers = {"X-Pwd": PASSWORD}
    old = Parameters(model=GPT.name, endpoint=GPT.base_url, extra_headers={"x-pwd": DIGEST})
    assert parameter_differences(Parameters.of(GPT, extra_headers=headers), old) == ()
    (difference,) = parameter_differences(Parameters.of(GPT, extra_headers={"X-Pwd": "x"}), old)
    assert str(difference) == "extra_headers: asked values that are not kept, stored others"


def test_a_request_shows_no_unknown_header() -> None:
    request = HttpRequest(
        method="POST",
        url="https://h/v1?key=k",
        headers={"x-pwd": PASSWORD, "anthropic-beta": "b", "authorization": "z"},
    )
    assert "anthropic-beta': 'b'" in repr(request)
    assert PASSWORD not in repr(request)
    assert "'z'" not in repr(request)


def test_values_of_headers_are_masked_unless_the_user_says_that_they_are_public(
    emulator: Emulator, make_client: Any
) -> None:
    headers = {"X-Pwd": PASSWORD, "X-Tenant": "blue-team", "OpenAI-Beta": "new-thing", "Cookie": "id=c00kie-77; x=1"}
    client = make_client(extra_headers=headers, public_headers=["x-TENANT"], max_attempts=1)
    emulator.script([Fault.raw(403, json.dumps({"error": {"message": f"not allowed: {headers}"}}).encode())])
    (response,) = client.process_prompts_sync(["p"], show_progress=False)
    assert "blue-team" in response.error_message
    assert "new-thing" in response.error_message
    assert PASSWORD not in response.error_message
    assert "c00kie" not in response.error_message
