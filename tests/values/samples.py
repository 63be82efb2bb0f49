"""Real media and prompts that the tests of the values share."""

import struct
import zlib

from lm_deluge.prompt import Conversation, File, Image, Message, ProviderBlock, Text, Thinking, ToolCall, ToolResult


def png(red: int = 255, green: int = 0, blue: int = 0) -> bytes:
    """A PNG of two pixels: the given color and white."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(bytes([0, red, green, blue, 255, 255, 255]))
    header = struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(64))
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + bytes(range(48))
WEBP = b"RIFF\x3c\x00\x00\x00WEBPVP8 " + bytes(range(48))
PDF = b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\ntrailer <</Root 1 0 R>>\n%%EOF\n"


def golden() -> dict[str, Conversation]:
    """Prompts whose keys are pinned. Add to them; a key that stands in the file never changes."""
    base = Conversation.system("You are terse.").user("What is 2+2?")
    asked = Message.ai().with_tool_call("call_1", "add", {"b": 2, "a": [1, 2.5, True, None, {"x": "ü"}]})
    return {
        "empty": Conversation(),
        "text": Conversation.user("What is 2+2?"),
        "unicode": Conversation.user('Straße 漢字 😀 \u0000 \u2028 "quoted" \\ \n\t'),
        "system": base,
        "empty_text": Conversation.user(""),
        "no_parts": Conversation.user(),
        "dialogue": base.ai("4").user("Sure?"),
        "two_texts": Conversation((Message("user", (Text("a"), Text("b"))),)),
        "image": Conversation.user("Color?", image=png()),
        "image_detail": Conversation((Message.user("Color?").with_image(png(), detail="low"),)),
        "image_url": Conversation.user("Color?", image="https://example.com/a.png"),
        "image_custom_type": Conversation((Message.user().with_image(b"\x00heic", media_type="image/heic"),)),
        "file": Conversation.user("Summarize.", file=PDF),
        "file_named": Conversation((Message.user("Summarize.").with_file(PDF, filename="a.pdf"),)),
        "file_text": Conversation.user("Summarize.", file="Grüße".encode()),
        "file_url": Conversation((Message("user", (File(url="https://example.com/a.pdf"),)),)),
        "tool_call": base.add(asked),
        "tool_call_bare": Conversation((Message("assistant", (ToolCall("call_1", "now"),)),)),
        "tool_result": base.add(asked).with_tool_result("call_1", "5.5"),
        "tool_result_error": base.add(asked).with_tool_result("call_1", "boom", is_error=True),
        "tool_result_json": base.add(asked).with_tool_result("call_1", {"b": 1, "a": [None]}),
        "tool_result_parts": Conversation(
            (Message("tool", (ToolResult("call_1", (Text("see"), Image.of(png(0, 255, 0)))),)),)
        ),
        "tool_results": base.add(asked).with_tool_results([("call_1", "1"), ("call_2", "2")]),
        "thinking": Conversation((Message("assistant", (Thinking("hm", "c2ln"), Text("4"))),)),
        "thinking_unsigned": Conversation((Message("assistant", (Thinking("hm"),)),)),
        "thinking_redacted": Conversation((Message("assistant", (Thinking(redacted="ZW5j"),)),)),
        "provider_block": Conversation(
            (Message("assistant", (ProviderBlock("anthropic", {"type": "web_search_tool_result", "content": []}),)),)
        ),
    }
