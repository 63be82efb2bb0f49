"""The emulator as a server: counting, holding, latency, concurrency, start and stop, and its other front doors."""

import asyncio
import http.server
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from lm_deluge.errors import ConfigError
from lm_deluge.testing import Answer, Emulator, FakeClock, Fault, ParsedRequest
from lm_deluge.testing.pytest_plugin import provider_emulator  # noqa: F401  (a fixture)

MARK = {"type": "ephemeral"}
CHAT = "/v1/chat/completions"
HEADERS = {"authorization": "Bearer secret", "content-type": "application/json", "anthropic-version": "2023-06-01"}


def messages(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": text}], **more}


def chat(text: str = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": text}], **more}


def post(url: str, path: str, body: Any) -> Any:
    request = urllib.request.Request(url + path, msgspec.json.encode(body), HEADERS)
    with urllib.request.urlopen(request, timeout=60) as response:
        return msgspec.json.decode(response.read())


# -- counting ----------------------------------------------------------------------------------------------------------


def test_calls_and_records(emulator: Emulator, ask: Any) -> None:
    ask(emulator, messages())
    ask(emulator, {"model": "x"})
    ask(emulator, chat("héllo"), path=CHAT, headers={"x-mine": "1"})
    ask(emulator, {k: v for k, v in messages().items() if k != "max_tokens"}, path="/v1/messages/count_tokens")
    assert emulator.calls == 3, "counting tokens is no call of a model"
    first, refused, last, _ = emulator.requests
    assert (first.path, first.status, first.json["max_tokens"]) == ("/v1/messages", 200, 64)
    assert first.cache is not None
    assert first.cache.total == 1
    assert (refused.status, refused.cache) == (400, None)
    assert last.headers["x-mine"] == "1"
    assert last.cache is not None
    assert last.cache.uncached == 3, "two tokens of text and one for the message"


def test_credentials_are_not_recorded(emulator: Emulator, ask: Any) -> None:
    ask(emulator, messages(), key="sk-very-secret", headers={"x-api-key": "sk-very-secret", "cookie": "sk-very-secret"})
    assert "sk-very-secret" not in repr(emulator.requests)


def test_reset_forgets_everything(emulator: Emulator, ask: Any) -> None:
    large = messages("word" * 5000, cache_control=MARK)
    ask(emulator, large)
    emulator.script([Fault.overloaded()])
    emulator.reset()
    assert (emulator.calls, emulator.requests, emulator.stats().statuses) == (0, [], {})
    answer = ask(emulator, large)
    assert answer.status == 200
    assert answer.json["usage"]["cache_creation_input_tokens"] == 5000


def test_records_are_bounded_or_off(ask: Any) -> None:
    with Emulator(record_limit=2) as emulator:
        for text in "abc":
            ask(emulator, chat(text), path=CHAT)
        assert [each.json["messages"][0]["content"] for each in emulator.requests] == ["b", "c"]
    with Emulator(record=False) as emulator:
        ask(emulator, chat(), path=CHAT)
        assert (emulator.calls, emulator.requests) == (1, [])


def test_statistics_and_reset_over_http(emulator: Emulator, ask: Any) -> None:
    ask(emulator, messages("word" * 5000, cache_control=MARK))
    ask(emulator, messages("word" * 5000, cache_control=MARK))
    ask(emulator, chat("word" * 10), path=CHAT)
    stats = ask(emulator, method="GET", path="/_emulator/stats").json
    assert stats["calls"] == 3
    assert (stats["cache_write_5m_tokens"], stats["cache_read_tokens"], stats["input_tokens"]) == (5000, 5000, 11)
    assert (stats["cache_writes"], stats["cache_reads"], stats["statuses"]) == (1, 1, {"200": 3})
    assert ask(emulator, method="GET", path="/").json == stats
    ask(emulator, path="/_emulator/reset")
    assert emulator.calls == 0


# -- time and concurrency ----------------------------------------------------------------------------------------------


def test_requests_in_flight_are_counted_and_held(emulator: Emulator) -> None:
    with ThreadPoolExecutor(5) as pool, emulator.hold() as gate:
        futures = [pool.submit(post, emulator.url, CHAT, chat(str(number))) for number in range(5)]
        gate.wait(5)
        assert (emulator.calls, emulator.max_in_flight, gate.held) == (5, 5, 5)
        assert not any(future.done() for future in futures)
        gate.release(2)
        gate.wait(3)
        gate.open()
        assert all(future.result(10)["object"] == "chat.completion" for future in futures)
    assert emulator.stats().in_flight == 0


def test_an_entry_is_readable_once_the_first_answer_has_begun(emulator: Emulator) -> None:
    """Ten requests at once pay for ten writes; those that come after the first byte read."""
    with ThreadPoolExecutor(10) as pool:
        with emulator.hold() as gate:
            futures = [pool.submit(post, emulator.url, "/v1/messages", _fan_out(row)) for row in range(10)]
            gate.wait(10)
        written = [future.result(10)["usage"]["cache_creation_input_tokens"] for future in futures]
    assert written == [5000] * 10
    assert post(emulator.url, "/v1/messages", _fan_out(11))["usage"]["cache_read_input_tokens"] == 5000


def _fan_out(row: int) -> dict[str, Any]:
    shared = {"type": "text", "text": "word" * 5000, "cache_control": MARK}
    return messages("x", system=[shared]) | {"messages": [{"role": "user", "content": f"row {row}"}]}


def test_lifetime_runs_from_the_start_of_the_request(ask: Any, clock: FakeClock) -> None:
    with Emulator(clock=clock, latency=250.0) as emulator, ThreadPoolExecutor(1) as pool:

        def usage() -> Any:
            future = pool.submit(post, emulator.url, "/v1/messages", _fan_out(1))
            clock.wait_for_sleepers()
            clock.advance(250)
            return future.result(10)["usage"]

        assert usage()["cache_creation_input_tokens"] == 5000
        clock.advance(49)
        assert usage()["cache_read_input_tokens"] == 5000, "299 s after the first request began"
        clock.advance(50)
        assert usage()["cache_creation_input_tokens"] == 5000, "300 s after the last use began"


def test_latency_may_depend_on_the_request(clock: FakeClock) -> None:
    def latency(request: ParsedRequest) -> float:
        return 60.0 if request.text == "slow" else 0.0

    with Emulator(clock=clock, latency=latency) as emulator, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, emulator.url, CHAT, chat("slow"))
        clock.wait_for_sleepers()
        assert post(emulator.url, CHAT, chat("quick"))["object"] == "chat.completion"
        assert not slow.done()
        clock.advance(60)
        slow.result(10)


def test_waiting_for_held_requests_does_not_block_the_loop(emulator: Emulator) -> None:
    async def run() -> str:
        with emulator.hold() as gate:
            task = asyncio.create_task(asyncio.to_thread(post, emulator.url, CHAT, chat()))
            await gate.arrived(timeout=60)
            gate.release()
            answer = await task
        return str(answer["object"])

    assert asyncio.run(run()) == "chat.completion"


def test_a_client_that_leaves_is_no_longer_held(emulator: Emulator, until: Any) -> None:
    with emulator.hold() as gate:
        body = msgspec.json.encode(chat())
        head = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "content-length": str(len(body))}.items())
        connection = socket.create_connection(("127.0.0.1", int(emulator.url.rpartition(":")[2])))
        connection.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{head}\r\n".encode() + body)
        gate.wait()
        connection.close()
        until(lambda: gate.held == 0)
    until(lambda: emulator.stats().in_flight == 0)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_answer_and_another_one_another(emulator: Emulator, ask: Any) -> None:
    def answer(sent: dict[str, Any], path: str) -> str:
        whole = ask(emulator, sent, path=path).json
        return str(whole["content"][-1]["text"] if "content" in whole else whole["choices"][0]["message"]["content"])

    for make, path in ((messages, "/v1/messages"), (chat, CHAT)):
        texts = [answer(make(f"tell me about {number}"), path) for number in range(8)]
        assert texts == [answer(make(f"tell me about {number}"), path) for number in range(8)]
        assert len(set(texts)) > 5
        two = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "ok"}]
        last = [{"role": "user", "content": "tell me about 1"}]
        assert answer({**make(), "messages": two + last}, path) != texts[1], "the history matters"


def test_marks_do_not_change_the_answer(emulator: Emulator, ask: Any) -> None:
    def answer(**mark: Any) -> Any:
        block = {"type": "text", "text": "tell me", **mark}
        return ask(emulator, {**messages(), "messages": [{"role": "user", "content": [block]}]}).json["content"]

    assert answer() == answer(cache_control=MARK)


def test_a_responder_scripts_the_answers(ask: Any) -> None:
    seen = []

    def responder(request: ParsedRequest) -> Answer:
        seen.append(request)
        return Answer(text=f"{request.system}|{request.text}|{request.model}")

    with Emulator(responder=responder) as emulator:
        whole = ask(emulator, messages("q", system="s")).json
        assert whole["content"] == [{"type": "text", "text": "s|q|claude-haiku-4-5", "citations": None}]
        sent = chat("q", max_completion_tokens=5, stop=["x"])
        sent["messages"].insert(0, {"role": "developer", "content": "d"})
        whole = ask(emulator, sent, path=CHAT).json
        assert whole["choices"][0]["message"]["content"] == "d|q|gpt-4.1-mini"
    assert [each.provider for each in seen] == ["anthropic", "openai"]
    assert (seen[0].max_tokens, seen[1].max_tokens, seen[1].stop) == (64, 5, ("x",))
    assert seen[1].json["messages"][0]["role"] == "developer"


# -- images by URL -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files() -> Iterator[str]:
    """A web server that has one file."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/there.png" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_loopback_urls_are_really_downloaded(files: str, emulator: Emulator, ask: Any) -> None:
    def anthropic(url: str) -> dict[str, Any]:
        block = {"type": "image", "source": {"type": "url", "url": url}}
        return {**messages(), "messages": [{"role": "user", "content": [block]}]}

    def openai(url: str) -> dict[str, Any]:
        part = {"type": "image_url", "image_url": {"url": url}}
        return {**chat(), "messages": [{"role": "user", "content": [part]}]}

    assert ask(emulator, anthropic(f"{files}/there.png")).status == 200
    assert ask(emulator, openai(f"{files}/there.png"), path=CHAT).status == 200
    answer = ask(emulator, anthropic(f"{files}/gone.png"))
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert "Unable to download the file" in answer.json["error"]["message"]
    answer = ask(emulator, openai(f"{files}/gone.png"), path=CHAT)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_image_url")
    assert ask(emulator, openai("http://127.0.0.1:1/refused.png"), path=CHAT).status == 400


# -- life --------------------------------------------------------------------------------------------------------------


def test_it_stops_though_requests_hang_and_starts_again(until: Any) -> None:
    emulator = Emulator()
    with pytest.raises(ConfigError, match="not running"):
        _ = emulator.url
    for _ in range(2):
        with emulator, ThreadPoolExecutor(2) as pool:
            emulator.script([Fault.hang()])
            pool.submit(_ignore, emulator.url)
            until(lambda: emulator.stats().in_flight == 1)
            emulator.hold()
            pool.submit(_ignore, emulator.url)
            until(lambda: emulator.stats().in_flight == 2)
            with pytest.raises(ConfigError, match="running already"):
                emulator.start()
            emulator.stop()
        emulator.app.gate = None


def _ignore(url: str) -> None:
    try:
        post(url, CHAT, chat())
    except OSError:  # http.client.RemoteDisconnected among them
        return


def test_its_loop_never_blocks() -> None:
    from blockbuster import blockbuster_ctx

    from lm_deluge.testing import dataset

    dataset._rows.cache_clear()
    dataset._questions_by_tail.cache_clear()
    with blockbuster_ctx(), Emulator() as emulator:
        for path, body in ((CHAT, chat("what now?")), ("/v1/messages", messages("what now?"))):
            assert post(emulator.url, path, body)["model"]


def test_a_port_in_use_is_reported(emulator: Emulator) -> None:
    port = int(emulator.url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        Emulator(port=port).start()


def test_the_fixture_points_the_environment_at_it(provider_emulator: Emulator) -> None:  # noqa: F811
    import os

    assert os.environ["OPENAI_BASE_URL"] == provider_emulator.url + "/v1"
    assert os.environ["ANTHROPIC_BASE_URL"] == provider_emulator.url
    assert os.environ["OPENAI_API_KEY"]
    assert os.environ["ANTHROPIC_API_KEY"]
    post(os.environ["OPENAI_BASE_URL"], "/chat/completions", chat())
    assert provider_emulator.calls == 1


def test_it_runs_as_a_process() -> None:
    command = [sys.executable, "-m", "lm_deluge.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert post(url, CHAT, chat())["object"] == "chat.completion"
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, ""), "Ctrl-C is a normal end"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, lm_deluge.testing, lm_deluge.testing.pytest_plugin as p;"
        "heavy = {'uvicorn', 'asyncio', 'msgspec', 'openai', 'anthropic'} & (set(sys.modules) - before);"
        "assert not heavy, heavy"
    )
    before = "import sys, pytest; import lm_deluge; before = set(sys.modules);"
    subprocess.run([sys.executable, "-c", before + code], check=True)


def test_every_public_name_exists() -> None:
    import lm_deluge.testing as package

    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
