"""What a daemon thread is told while the interpreter ends is stored."""

import subprocess
import sys

from lm_deluge import Conversation
from lm_deluge.cache import SqliteCache

PROGRAM = """
import atexit, sys, threading, time

atexit.register(time.sleep, 0.5)  # the last to be called: until then the other thread goes on

from lm_deluge import LLMClient
from lm_deluge.cache import SqliteCache
from lm_deluge.transport import MockTransport

import msgspec
from lm_deluge.wire import HttpResponse

BODY = msgspec.json.encode({
    "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4.1-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
})


def answer(request):
    time.sleep(0.002)
    return HttpResponse(status=200, headers={}, body=BODY)


first = threading.Event()
client = LLMClient(
    "gpt-4.1-mini", cache=SqliteCache(sys.argv[1]), api_key="k", transport=MockTransport(answer),
    max_concurrent_requests=4, max_requests_per_minute=1e9, max_tokens_per_minute=1e12,
)


def run():
    import asyncio

    async def main():
        async for response in client.process_prompts_iter([f"q{n}" for n in range(5000)], show_progress=False):
            sys.stdout.write(f"q{response.id}\\n")
            sys.stdout.flush()
            first.set()

    asyncio.run(main())


threading.Thread(target=run, daemon=True).start()
first.wait(30)
"""


def test_what_a_daemon_thread_was_told_at_the_end_is_stored(tmp_path):
    path = tmp_path / "c.db"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, timeout=120, check=False
    )
    told = done.stdout.split("\n")[:-1]  # the last line may be cut short
    assert len(told) > 20, done.stderr
    with SqliteCache(path) as cache:
        missing = [prompt for prompt in told if cache.get(Conversation.user(prompt)) is None]
    assert not missing
    assert "closed" not in done.stderr
