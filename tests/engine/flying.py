"""The other process of a test: many duplicates of one prompt, in single flight. It says how many calls it made."""

import sys

from lm_deluge import LLMClient
from lm_deluge.cache import SqliteCache

path, count = sys.argv[1], int(sys.argv[2])
cache = SqliteCache(path)
client = LLMClient(
    "gpt-4.1-mini",
    cache=cache,
    single_flight=True,
    max_requests_per_minute=10_000_000,
    max_tokens_per_minute=10_000_000_000,
)
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
responses = client.process_prompts_sync(["What is 2+2?"] * count, show_progress=False)
answered = sum(not response.is_error for response in responses)
report = client.last_report
assert report is not None
sys.stdout.write(f"{report.calls} {answered}\n")
sys.stdout.flush()
cache.close()
