"""Makes ``golden/reference_0_0_138.db``, in an environment that has PyPI ``lm-deluge`` and not this package.

    python -m venv reference && reference/bin/pip install lm-deluge==0.0.138
    reference/bin/python tests/cache/archive/make_reference.py tests/cache/golden/reference_0_0_138.db

With a directory as a second argument it makes a LevelDB cache with the same entries there.
"""

import base64
import sys

from lm_deluge.prompt.text import Text

from lm_deluge import APIResponse, Conversation, Message, SamplingParams
from lm_deluge.cache import LevelDBCache, SqliteCache
from lm_deluge.usage import Usage

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def fill(cache) -> None:
    def put(prompt, content, **facts) -> None:
        given = {
            "id": 7,
            "model_internal": "gpt-4.1-mini",
            "model_external": "gpt-4.1-mini-2025-04-14",
            "sampling_params": SamplingParams(),
            "status_code": 200,
            "is_error": False,
            "error_message": None,
            "usage": Usage(input_tokens=100, output_tokens=7, cache_read_tokens=40),
            "finish_reason": "stop",
        }
        cache.put(prompt, APIResponse(prompt=prompt, content=content, **{**given, **facts}))

    user, ai = Message.user, Message.ai
    calling = Message("assistant", []).with_tool_call("call_1", "weather", {"city": "Paris", "days": 2})
    claude = {"model_internal": "claude-4-sonnet", "model_external": "claude-sonnet-4-20250514"}

    # Whole
    put(Conversation().user("What is 2+2?"), ai("4"))
    put(Conversation().system("Be brief.").add(user("Zwölf — 十二?")).add(ai("12")).add(user("\r\n\0 ")), ai("douze"))
    put(Conversation().add(user("two parts: ").with_text("and the second")), ai("both"))
    put(Conversation().user("Weather in Paris?"), calling, finish_reason="tool_calls")
    put(Conversation().user("Weather?").add(calling).with_tool_result("call_1", "sunny"), ai("Sunny."))
    put(Conversation().user("A long one"), ai("It was a dark and"), finish_reason="max_tokens", **claude)
    put(Conversation().user("No usage"), ai("none"), usage=None, model_external=None, finish_reason=None)
    # Not whole
    put(Conversation().user("What is on it?", image=PNG), ai("Red."))
    put(Conversation().add(user("Read").with_file(b"%PDF-1.7\n", media_type="application/pdf")), ai("Read."))
    put(Conversation().user("Weather").add(calling).with_tool_result("call_1", [Text("a"), Text("b")]), ai("Both."))
    put(Conversation().user("Think"), Message("assistant", []).with_thinking("hm").with_text("Thought."), **claude)
    put(Conversation().user("Thought?").add(Message("assistant", []).with_thinking("hm")).add(user("?")), ai("Yes."))
    put(Conversation().user("Chances?"), ai("y"), sampling_params=SamplingParams(logprobs=True))
    put(Conversation(), ai("to nothing"))
    # Not worth keeping
    put(Conversation().user("An error"), None, is_error=True, error_message="boom", status_code=500, usage=None)
    put(Conversation().user("Nothing"), ai(""))
    put(Conversation().user("Filtered"), ai("I cannot."), finish_reason="content_filter")


if __name__ == "__main__":
    for cache_key in ("default", "a:b"):
        cache = SqliteCache(sys.argv[1], cache_key=cache_key)
        fill(cache)
        cache.close()
    for directory in sys.argv[2:]:
        cache = LevelDBCache(directory)
        fill(cache)
        cache.close()
