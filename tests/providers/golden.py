"""Values and the bytes they stand for. The same rows drive the writers and the readers."""

from lm_deluge.prompt import File, Image, Message, Part, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from lm_deluge.providers import Reply
from lm_deluge.usage import Usage

PNG = b"\x89PNG\r\n\x1a\nrest"
PDF = b"%PDF-1.7 rest"

ANTHROPIC_BLOCKS: dict[str, tuple[Part, bytes]] = {
    "text": (Text("Hi"), b'{"type":"text","text":"Hi"}'),
    "unicode": (Text("né 🌍\n"), '{"type":"text","text":"né 🌍\\n"}'.encode()),
    "thinking": (Thinking("Hm", signature="sig=="), b'{"type":"thinking","thinking":"Hm","signature":"sig=="}'),
    "omitted thinking": (Thinking(signature="sig"), b'{"type":"thinking","thinking":"","signature":"sig"}'),
    "redacted thinking": (Thinking(redacted="enc"), b'{"type":"redacted_thinking","data":"enc"}'),
    "tool call": (
        ToolCall("toolu_1", "f", {"a": [1, None, 2.5]}),
        b'{"type":"tool_use","id":"toolu_1","name":"f","input":{"a":[1,null,2.5]}}',
    ),
    "server tool": (
        ProviderBlock("anthropic", {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        b'{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}',
    ),
}
"""What a model says, written back as it was read."""

ANTHROPIC_USER_BLOCKS: dict[str, tuple[Part, bytes]] = {
    "image": (
        Image(data=PNG, media_type="image/png"),
        b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgpyZXN0"}}',
    ),
    "image by URL": (
        Image(url="https://example.com/a.png"),
        b'{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}',
    ),
    "pdf": (
        File(data=PDF, media_type="application/pdf", filename="a.pdf"),
        b'{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0xLjcgcmVzdA=="},'
        b'"title":"a.pdf"}',
    ),
    "text file": (
        File(data="né".encode(), media_type="text/csv"),
        '{"type":"document","source":{"type":"text","media_type":"text/plain","data":"né"}}'.encode(),
    ),
    "file by URL": (
        File(url="https://example.com/a.pdf"),
        b'{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}',
    ),
    "result": (
        ToolResult("toolu_1", "ok"),
        b'{"type":"tool_result","tool_use_id":"toolu_1","content":"ok"}',
    ),
    "failed result": (
        ToolResult("toolu_1", "", is_error=True),
        b'{"type":"tool_result","tool_use_id":"toolu_1","content":"error","is_error":true}',
    ),
    "result with image": (
        ToolResult("functions.f:0", (Text("see"), Text(" "), Image(data=PNG, media_type="image/png"))),
        b'{"type":"tool_result","tool_use_id":"functions_f_0","content":[{"type":"text","text":"see"},{"type":"image",'
        b'"source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgpyZXN0"}}]}',
    ),
}
"""What a user says."""

OPENAI_ASSISTANT: dict[str, tuple[Message, bytes]] = {
    "text": (Message.ai("Hi"), b'{"role":"assistant","content":"Hi"}'),
    "parts": (
        Message("assistant", (Text("a"), Text("b"))),
        b'{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}',
    ),
    "tool calls": (
        Message("assistant", (ToolCall("call_1", "f", {"a": 1}), ToolCall("call_2", "g"))),
        b'{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":'
        b'"{\\"a\\":1}"}},{"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}]}',
    ),
    "text and unparsable arguments": (
        Message("assistant", (Text("Well"), ToolCall("call_1", "f", {"_raw": '{"a": tru'}))),
        b'{"role":"assistant","content":"Well","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f",'
        b'"arguments":"{\\"a\\": tru"}}]}',
    ),
    "unknown part": (
        Message("assistant", (Text("a"), ProviderBlock("openai-chat", {"type": "chart", "data": [1]}))),
        b'{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"chart","data":[1]}]}',
    ),
}
"""What a model says, written back as it was read."""

OPENAI_MESSAGES: dict[str, tuple[list[Message], bytes]] = {
    "image": (
        [Message.user("See").with_part(Image(data=PNG, media_type="image/png", detail="low"))],
        b'[{"role":"user","content":[{"type":"text","text":"See"},{"type":"image_url","image_url":'
        b'{"url":"data:image/png;base64,iVBORw0KGgpyZXN0","detail":"low"}}]}]',
    ),
    "files": (
        [
            Message(
                "user",
                (
                    File(data=PDF, media_type="application/pdf"),
                    File(data=b"a,b", media_type="text/csv", filename="a.csv"),
                ),
            )
        ],
        b'[{"role":"user","content":[{"type":"file","file":{"filename":"file.pdf","file_data":'
        b'"data:application/pdf;base64,JVBERi0xLjcgcmVzdA=="}},{"type":"file","file":{"filename":"a.csv",'
        b'"file_data":"data:text/csv;base64,YSxi"}}]}]',
    ),
    "tool results": (
        [Message("tool", (ToolResult("call_1", "ok"), ToolResult("call_2", (Text("a"), Text("b")))))],
        b'[{"role":"tool","tool_call_id":"call_1","content":"ok"},{"role":"tool","tool_call_id":"call_2",'
        b'"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]',
    ),
    "images of tool results come after the last of them": (
        [
            Message("tool", (ToolResult("c1", (Image(url="https://example.com/a.png"),)),)),
            Message("tool", (ToolResult("c2", ""),)),
            Message.user("And now?"),
        ],
        b'[{"role":"tool","tool_call_id":"c1","content":"[1 image: see the next user message]"},'
        b'{"role":"tool","tool_call_id":"c2","content":""},'
        b'{"role":"user","content":[{"type":"text","text":"[image of tool result c1]"},{"type":"image_url","image_url":'
        b'{"url":"https://example.com/a.png"}},{"type":"text","text":"And now?"}]}]',
    ),
    "images of tool results at the end": (
        [Message("tool", (ToolResult("c1", (Text("x"), Image(url="https://example.com/a.png"))),))],
        b'[{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"x"},{"type":"text","text":'
        b'"[1 image: see the next user message]"}]},{"role":"user","content":[{"type":"text","text":'
        b'"[image of tool result c1]"},{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}]',
    ),
    "thinking is not sent": (
        [Message("assistant", (Thinking("Hm", signature="s"), Text("Hi"))), Message("assistant", (Thinking("Hm"),))],
        b'[{"role":"assistant","content":"Hi"}]',
    ),
    "empty text": ([Message.user("")], b'[{"role":"user","content":""}]'),
}

ANTHROPIC_REPLIES: dict[str, tuple[bytes, Reply]] = {
    "text": (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[{"type":'
        b'"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":8,'
        b'"output_tokens":5,"cache_read_input_tokens":2048,"cache_creation_input_tokens":300,"cache_creation":'
        b'{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"service_tier":"standard"}}',
        Reply(
            content=Message.ai("Hello"),
            usage=Usage(
                input_tokens=8,
                output_tokens=5,
                cache_read_tokens=2048,
                cache_write_tokens=300,
                cache_write_1h_tokens=200,
            ),
            finish_reason="stop",
            model="claude-sonnet-4-5-20250929",
            response_id="msg_1",
        ),
    ),
    "thinking and tools": (
        b'{"id":"msg_2","type":"message","role":"assistant","model":"claude-opus-5-5","content":[{"type":"thinking",'
        b'"thinking":"Hm","signature":"s"},{"type":"redacted_thinking","data":"enc"},{"type":"text","text":"Let me '
        b'look."},{"type":"tool_use","id":"toolu_1","name":"f","input":{"city":"Paris"}}],"stop_reason":"tool_use",'
        b'"stop_sequence":null,"usage":{"input_tokens":20,"output_tokens":60,"output_tokens_details":'
        b'{"thinking_tokens":40}}}',
        Reply(
            content=Message(
                "assistant",
                (
                    Thinking("Hm", signature="s"),
                    Thinking(redacted="enc"),
                    Text("Let me look."),
                    ToolCall("toolu_1", "f", {"city": "Paris"}),
                ),
            ),
            usage=Usage(input_tokens=20, output_tokens=60, reasoning_tokens=40),
            finish_reason="tool_calls",
            model="claude-opus-5-5",
            response_id="msg_2",
        ),
    ),
    "refusal": (
        b'{"id":"msg_3","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":'
        b'"refusal","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":0}}',
        Reply(
            content=Message("assistant"),
            usage=Usage(input_tokens=9),
            finish_reason="refusal",
            model="claude-opus-5-5",
            response_id="msg_3",
        ),
    ),
}

OPENAI_REPLIES: dict[str, tuple[bytes, Reply]] = {
    "text": (
        b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-6.1-sol","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"Hello","refusal":null},"finish_reason":"stop","logprobs":{"content":'
        b'[{"token":"Hello","logprob":-0.5,"bytes":[72],"top_logprobs":[]}],"refusal":null}}],"usage":{"prompt_tokens":'
        b'3000,"completion_tokens":50,"total_tokens":3050,"prompt_tokens_details":{"cached_tokens":2048,'
        b'"cache_write_tokens":900},"completion_tokens_details":{"reasoning_tokens":30}}}',
        Reply(
            content=Message.ai("Hello"),
            usage=Usage(
                input_tokens=52,
                output_tokens=50,
                cache_read_tokens=2048,
                cache_write_tokens=900,
                reasoning_tokens=30,
            ),
            finish_reason="stop",
            model="gpt-6.1-sol",
            response_id="chatcmpl-1",
            logprobs=[{"token": "Hello", "logprob": -0.5, "bytes": [72], "top_logprobs": []}],
        ),
    ),
    "tool calls": (
        b'{"id":"chatcmpl-2","object":"chat.completion","created":1,"model":"gpt-4.1","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":'
        b'{"name":"f","arguments":"{\\"city\\": \\"Paris\\"}"}}]},"finish_reason":"tool_calls","logprobs":null}],'
        b'"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}',
        Reply(
            content=Message("assistant", (ToolCall("call_1", "f", {"city": "Paris"}),)),
            usage=Usage(input_tokens=10, output_tokens=4),
            finish_reason="tool_calls",
            model="gpt-4.1",
            response_id="chatcmpl-2",
        ),
    ),
    "refusal": (
        b'{"id":"chatcmpl-3","object":"chat.completion","created":1,"model":"gpt-4.1","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":null,"refusal":"No."},"finish_reason":"stop","logprobs":null}],'
        b'"usage":{"prompt_tokens":10,"completion_tokens":4,"total_tokens":14}}',
        Reply(
            content=Message.ai("No."),
            usage=Usage(input_tokens=10, output_tokens=4),
            finish_reason="refusal",
            model="gpt-4.1",
            response_id="chatcmpl-3",
        ),
    ),
}
