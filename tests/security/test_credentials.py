"""No credential in anything that is written or said: files, logs, warnings, events, representations, errors, output."""

import json
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from lm_deluge import Conversation, LLMClient
from lm_deluge.cache import RedisCache, ResponseCache, SqliteCache
from lm_deluge.cache.admin.archive import export
from lm_deluge.cache.codec import decode
from lm_deluge.cache.record import unpack_request
from lm_deluge.errors import CacheFileError, ConfigError, LMDelugeError
from lm_deluge.testing import Emulator, Fault
from lm_deluge.transport import AsyncioTransport

from ..cache.redis_server import RedisServer
from ..cli.conftest import Deluge
from .conftest import PASSWORD

if TYPE_CHECKING:
    from lm_deluge.events import Event

ENVIRONMENT, ARGUMENT, BEARER = "sk-proj-ENVIRONMENT00000001", "k3y.of.ARGUMENT/00000002", "t0ken_of_BEARER_00000003"
GATEWAY = "gatew4y-00000008"
COOKIE, SESSION, PROXY, ADDRESS = "c00kie-00000004", "s3ssion-00000005", "pr0xy-00000006", "addr3ss-00000007"
SECRETS = (ENVIRONMENT, ARGUMENT, BEARER, COOKIE, SESSION, PROXY, ADDRESS, PASSWORD, GATEWAY)
HEADERS = {
    "Authorization": f"Bearer {BEARER}",
    "Cookie": f"id={COOKIE}",
    "X-Session-Id": SESSION,
    "X-Gateway-Password": GATEWAY,
    "OpenAI-Beta": "beta-1",
}
FORMS = re.compile("|".join(re.escape(secret[:-4]) for secret in SECRETS))  # nor most of one


def assert_unsaid(what: str, said: object) -> None:
    """See that a text, or bytes, holds none of the secrets."""
    text = said.decode("latin-1") if isinstance(said, bytes) else str(said)
    found = FORMS.search(text)
    assert found is None, f"{found[0]} is in {what}: …{text[max(0, found.start() - 80) : found.end() + 20]}…"


class Ear:
    """Hears everything that is said while it listens."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.events: list[Event] = []
        self.warnings: list[warnings.WarningMessage] = []
        self.raised: list[BaseException] = []

    def __enter__(self) -> "Ear":
        self._caplog.set_level(logging.DEBUG)
        self._catching = warnings.catch_warnings(record=True)
        self.warnings = self._catching.__enter__() or []
        warnings.simplefilter("always")
        return self

    def __exit__(self, *_: object) -> None:
        self._catching.__exit__(None, None, None)
        for record in self._caplog.records:
            assert_unsaid("a log record", f"{record.getMessage()} {record.__dict__} {record.exc_text}")
        for warning in self.warnings:
            assert_unsaid("a warning", f"{warning.message!r} {warning.message}")
        for event in self.events:
            assert_unsaid("an event", repr(event))
        for error in self.raised:
            assert_unsaid("an exception", "".join(traceback.format_exception(error)))
            while error is not None:
                assert_unsaid("an exception", f"{error!r} {error} {error.args} {vars(error)}")
                error = error.__cause__ or error.__context__  # type: ignore[assignment]

    def hears(self, *errors: type[BaseException]) -> Any:
        ear = self

        class Catching(suppress):
            def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
                assert kind is not None, "nothing was raised"
                ear.raised.append(error)
                return super().__exit__(kind, error, trace)

        return Catching(*errors)


@pytest.fixture
def ear(caplog: pytest.LogCaptureFixture) -> Iterator[Ear]:
    with Ear(caplog) as ear:
        yield ear


def faults(key: str) -> list[Fault]:
    """Failures of all kinds; servers and gateways repeat the key and the headers that they were sent."""
    return [
        Fault.error(401, message=f"Incorrect API key provided: {key}."),
        Fault.error(403, message=f"No such key: {key} (authorization: Bearer {BEARER}; cookie: id={COOKIE})"),
        Fault.error(400, message=f"What is this? {json.dumps(HEADERS)} " * 9),
        Fault.error(404, message="x" * (500 - len(key) // 2) + key),  # where a long message is cut
        Fault.drop(),
        Fault.invalid_json(),
    ]


def batch(emulator: Emulator, ear: Ear, cache: ResponseCache, *, key: str = ENVIRONMENT, **arguments: Any) -> LLMClient:
    """A client that has seen answers, errors that repeat what was sent, and a provider that is gone."""
    client = LLMClient(
        "gpt-4.1-mini",
        cache=cache,
        extra_headers=HEADERS,
        max_attempts=1,
        listeners=[ear.events.append],
        transport=AsyncioTransport(proxy=f"http://user:{PROXY}@127.0.0.1:9") if "proxied" in arguments else None,
        **{name: value for name, value in arguments.items() if name != "proxied"},
    )
    script = faults(key)
    emulator.script(script)
    responses = []
    for number in range(len(script) + 2):
        responses += client.process_prompts_sync(
            [f"question {number}"], show_progress=False, run_name="night", tags=["a"]
        )
    responses += client.process_prompts_sync(["question 99"], cache_mode="offline", show_progress=False)
    assert "proxied" in arguments or sum(not response.is_error for response in responses) == 2
    for response in responses:
        assert_unsaid("a response", f"{response!r} {response.to_dict()}")
    for value in (client, client.last_report, client.report(), client.parameters(), cache, cache.location):
        assert_unsaid("a representation", repr(value))
    assert_unsaid("an explanation", f"{client.explain('question 98')} {client.explain('question 98')!r}")
    return client


def assert_files_are_clean(directory: Path) -> None:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_unsaid(path.name, path.read_bytes())


def assert_store_is_clean(cache: ResponseCache, directory: Path) -> None:
    """Look at what is compressed, too."""
    store: Any = cache.backend
    entries = list(store.scan())
    assert len(entries) == 2
    for stored in entries:
        assert_unsaid("an entry", repr(stored))
        assert_unsaid("a response", msgspec.msgpack.encode(decode(stored.key, stored.value).response))
        request = unpack_request(stored.request, store.read_blobs)
        assert_unsaid("a request", msgspec.msgpack.encode(request))
        assert request.parameters is not None
        headers = request.parameters.extra_headers
        assert set(headers) == {"openai-beta", "x-gateway-password"}, "only headers that may say what is asked"
        assert len(headers["openai-beta"]) == 64, "the hash, where that is known"
        assert headers["x-gateway-password"] == ""
    assert_unsaid("runs", list(store.runs()))
    export(store, directory / "bundle.jsonl")


@pytest.mark.parametrize("scope", ["conversation", "request"])
def test_nothing_of_a_run_holds_a_credential(
    emulator: Emulator, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    cache = SqliteCache(tmp_path / "cache.db", scope=scope)
    batch(emulator, ear, cache)
    with SqliteCache(tmp_path / "other.db", scope=scope) as other:
        batch(emulator, ear, other, key=ARGUMENT, api_key=ARGUMENT)
    assert_files_are_clean(tmp_path)  # with the WAL beside it
    assert any(path.name.endswith("-wal") for path in tmp_path.iterdir())
    assert_store_is_clean(cache, tmp_path)
    cache.close()
    assert_files_are_clean(tmp_path)


def test_a_provider_and_a_proxy_that_are_gone_leave_no_credential_in_the_errors(
    emulator: Emulator, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    batch(emulator, ear, SqliteCache(tmp_path / "cache.db"), proxied=True).close()
    assert_unsaid("a transport", repr(AsyncioTransport(proxy=f"http://user:{PROXY}@127.0.0.1:9")))
    emulator.stop()
    (response,) = LLMClient("gpt-4.1-mini", extra_headers=HEADERS, max_attempts=1).process_prompts_sync(
        ["p"], show_progress=False
    )
    assert response.is_error
    assert_unsaid("a response", repr(response))
    assert_files_are_clean(tmp_path)


def test_what_is_refused_is_not_repeated(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (f"http://user:{ADDRESS}@host/v1", f"http://host/v1?key={ADDRESS}", f"ftp://{ADDRESS}", ADDRESS):
        with ear.hears(ConfigError):
            LLMClient("gpt-4.1-mini", base_url=address)
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        with ear.hears(ConfigError):
            LLMClient("gpt-4.1-mini")
    for url in (f"http://:{PASSWORD}@host", f"redis://:{PASSWORD}@host:port", f"redis://:{PASSWORD}@host?x={PASSWORD}"):
        with ear.hears(ConfigError):
            RedisCache(url)
    for proxy in (f"socks9://u:{PROXY}@host", f"http://u:{PROXY}@"):
        with ear.hears(ConfigError):
            AsyncioTransport(proxy=proxy)


def test_the_password_of_a_redis_server_is_never_said(
    emulator: Emulator, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded_redis: RedisServer
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    with RedisCache(guarded_redis.url) as cache:
        batch(emulator, ear, cache)
        assert_store_is_clean(cache, tmp_path)
    with guarded_redis.client() as client:
        for name in client.scan_iter():
            kind = client.type(name)
            held = client.hgetall(name) if kind == b"hash" else client.get(name) if kind == b"string" else None
            assert_unsaid(repr(name), held)
    with ear.hears(CacheFileError):
        RedisCache(guarded_redis.url.replace(PASSWORD, f"{PASSWORD}x"))
    with RedisServer(tcp=True, password=PASSWORD) as server:
        cache = RedisCache(server.url)
    with ear.hears(LMDelugeError):  # it has been stopped
        cache.get(Conversation.user("p"))
    assert_files_are_clean(tmp_path)


@pytest.fixture
def deluge(
    tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Deluge]:
    runner = Deluge(tmp_path, monkeypatch, capsys)
    yield runner
    runner.end()


def test_no_command_writes_or_says_a_credential(
    deluge: Deluge, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded_redis: RedisServer
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ENVIRONMENT)
    (tmp_path / "prompts.jsonl").write_text('"one"\n"two"\n"three"\n')
    caches = [str(tmp_path / "cache.db"), guarded_redis.url]
    for number, cache in enumerate(caches):
        emulator.script([Fault.error(401, message=f"Incorrect API key provided: {ENVIRONMENT}.")])
        done = deluge.inside("prompts.jsonl", "--out", f"out{number}.jsonl", "--cache", cache, "--with-prompt")
        assert_unsaid("the output of run", f"{done.stdout} {done.stderr}")
        assert done.returncode == 1
        key = deluge.cache("list", cache, "--json").stdout.partition('"key":"')[2][:64]
        commands = [
            ["stats"],
            ["list"],
            ["show", key],
            ["explain", "--prompt", "four", "-m", "gpt-4.1-mini"],
            ["drift"],
            ["verify"],
            ["prune", "--older-than", "1s", "--dry-run"],
            ["export", str(tmp_path / f"bundle{number}.jsonl")],
        ]
        for command, *rest in commands:
            for form in ([], ["--json"]):
                done = deluge.cache(command, cache, *rest, *form)
                assert_unsaid(f"the output of {command}", f"{done.stdout} {done.stderr}")
                assert done.returncode in (0, 1), done.stderr
    done = deluge.cache("stats", guarded_redis.url.replace(PASSWORD, f"{PASSWORD}x"))
    assert done.returncode != 0
    assert_unsaid("an error", done.stderr)
    assert_files_are_clean(tmp_path)
