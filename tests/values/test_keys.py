"""Different prompts never share a key, equal ones always do, and keys never move."""

import base64
import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given

import lm_deluge.prompt.conversation as conversation_module
from lm_deluge.canonical import conversation_key
from lm_deluge.errors import PromptError
from lm_deluge.prompt import (
    Conversation,
    File,
    Image,
    Message,
    ProviderBlock,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

from . import samples
from . import strategies as some

GOLDEN = Path(__file__).with_name("golden_keys.json")


def of(*parts, role="user"):
    return Conversation((Message(role, parts),))


def call(arguments):
    return of(ToolCall("1", "f", arguments), role="assistant")


def near_misses():
    """Prompts that a careless encoding would confuse; no two of them are the same."""
    red, almost_red = samples.png(255), samples.png(254)
    yield from [Conversation(), Conversation((Message("user"),)), Conversation((Message("system"),))]
    # Where a message or a part ends.
    yield from [of(Text(text)) for text in ("", "a", "ab", "a b", "a\nb", 'a","b', 'a"],["text","b', "a\x00b", "\x00")]
    yield from [of(Text("a"), Text("b")), of(Text(""), Text("ab")), of(Text("ab"), Text("")), of(Text("b"), Text("a"))]
    yield from [Conversation.user("a").user("b"), Conversation.user("b").user("a"), Conversation.user("a\nuser: b")]
    yield from [Conversation.user("a").ai("b"), Conversation.ai("a").user("b"), Conversation.system("a").user("b")]
    yield from [of(Text("a"), role=role) for role in ("system", "assistant", "tool")]
    # Unicode that looks alike: NFC and NFD, a Latin and a Cyrillic letter.
    yield from [of(Text("\u00e9")), of(Text("e\u0301")), of(Text("\u0430"))]
    # Types of JSON values.
    values = [1, 1.0, True, "1", "1.0", "true", None, "null", 0, 0.0, False, "", [], {}, [1], [[1]], {"1": 1}, [1, 1]]
    yield from [call({"a": value}) for value in values]
    yield from [call({}), call({"": None}), call({"a": 1, "b": 2}), call({"a": 2, "b": 1}), call({"a": [1, 2]})]
    yield from [call({"a": [2, 1]}), call({"a": 2**53}), call({"a": 2**53 + 1}), call({"a": float(2**53)})]
    yield from [of(ToolCall("f", "1", {}), role="assistant"), of(ToolCall("1", "g", {}), role="assistant")]
    # Tool results.
    yield from [
        of(ToolResult("1", result), role="tool") for result in ("", (), "a", (Text("a"),), (Text("a"), Text("")))
    ]
    yield from [of(ToolResult("1", "a", True), role="tool"), of(ToolResult("2", "a"), role="tool")]
    yield from [of(ToolResult("1", "a")), of(ToolResult.of("1", ["a"]), role="tool"), of(ToolResult("1", '{"a":1}'))]
    yield of(ToolResult("1", (Image.of(red),)), role="tool")
    # Thinking: nothing, an empty string and a value, in each field.
    fields = itertools.product(("", "a"), (None, "", "a"), (None, "", "a"))
    yield from [of(Thinking(*values), role="assistant") for values in fields]
    yield of(ProviderBlock("anthropic", {"type": "text", "text": "a"}), role="assistant")
    yield of(ProviderBlock("openai", {"type": "text", "text": "a"}), role="assistant")
    # Media.
    yield from [of(Image.of(red)), of(Image.of(almost_red)), of(Image.of(red + b"\x00")), of(Image.of(red[:-1]))]
    yield from [of(Image.of(red, detail=detail)) for detail in ("low", "high", "auto")]
    yield from [of(File.of(red)), of(File.of(red, filename="")), of(File.of(red, filename="a")), of(File.of(b"a"))]
    yield from [
        of(File.of(b"a", media_type="text/markdown")),
        of(Image.of(red), Text("a")),
        of(Text("a"), Image.of(red)),
    ]
    yield from [of(Image(url="https://a/x")), of(Image(url="https://a/X")), of(File(url="https://a/x"))]
    digest = hashlib.sha256(red).hexdigest()
    yield from [of(Text(digest)), of(Image(url=digest)), of(File(url=digest)), of(File.of(red, media_type="url"))]
    yield of(Text(base64.b64encode(red).decode()))


def test_near_misses_have_different_keys():
    found = list(near_misses())
    names: dict[bytes, Conversation] = {}
    for conversation in found:
        other = names.setdefault(conversation.digest, conversation)
        assert other is conversation, f"{other} and {conversation} share a key"
    assert len(names) == len(found) > 90


@given(some.conversations, some.conversations)
def test_keys_are_equal_exactly_when_the_prompts_are(one, other):
    assert (one.digest == other.digest) == (some.shape(one) == some.shape(other))


@given(some.messages, some.parts)
def test_any_change_of_a_message_changes_the_key(message, part):
    longer = message.with_part(part)
    assert Conversation((longer,)).digest != Conversation((message,)).digest
    assert Conversation((message, Message(message.role, (part,)))).digest != Conversation((longer,)).digest


@given(some.conversations)
def test_a_prompt_built_step_by_step_has_the_key_of_the_whole(conversation):
    grown = Conversation()
    for message in conversation.messages:
        grown = grown.add(message)
    stepwise = Conversation()
    for message in conversation.messages:
        stepwise = stepwise.add(message)
        assert len(stepwise.digest) == 32
    assert conversation.digest == grown.digest == stepwise.digest


@given(some.objects)
def test_the_order_of_object_keys_does_not_matter(arguments):
    turned = dict(reversed(arguments.items()))
    assert call(arguments).digest == call(turned).digest
    assert call({"deep": [arguments]}).digest == call({"deep": [turned]}).digest


@given(some.conversations)
def test_the_key_survives_every_way_of_copying(conversation):
    assert Conversation.from_log(json.loads(json.dumps(conversation.to_log()))).digest == conversation.digest
    assert conversation.load().digest == conversation.digest


def test_the_documented_formula():
    """The scheme as its documentation states it, with the standard library's JSON."""
    digest = hashlib.sha256(b"lm_deluge conversation 1").digest()
    for role, text in [("system", "Be brief. \u00fc\u2028"), ("user", 'Say "hi"\n')]:
        canonical = json.dumps([role, [["text", text]]], ensure_ascii=False, separators=(",", ":"))
        digest = hashlib.sha256(digest + canonical.encode()).digest()
    conversation = Conversation.system("Be brief. \u00fc\u2028").user('Say "hi"\n')
    assert conversation.digest == digest
    assert conversation.fingerprint == digest.hex()


@pytest.mark.parametrize("name", samples.golden())
def test_keys_never_move(name):
    conversation, pinned = samples.golden()[name], json.loads(GOLDEN.read_text())[name]
    assert conversation.fingerprint == pinned["key"]
    assert json.loads(json.dumps(conversation.to_log())) == pinned["log"]
    assert Conversation.from_log(pinned["log"]).fingerprint == pinned["key"]


def test_the_pinned_keys_are_all_tested():
    assert set(json.loads(GOLDEN.read_text())) == set(samples.golden())


def test_keys_are_the_same_in_another_process():
    program = (
        "import json, sys\n"
        "from lm_deluge.prompt import Conversation\n"
        "logs = json.load(sys.stdin)\n"
        "print(json.dumps({name: Conversation.from_log(log).fingerprint for name, log in logs.items()}))\n"
    )
    logs = json.dumps({name: conversation.to_log() for name, conversation in samples.golden().items()})
    for seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program], input=logs, env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == {name: each.fingerprint for name, each in samples.golden().items()}


class TestMedia:
    @pytest.mark.parametrize(
        ("content", "media_type"),
        [
            (samples.png(), "image/png"),
            (samples.JPEG, "image/jpeg"),
            (samples.GIF, "image/gif"),
            (samples.WEBP, "image/webp"),
        ],
    )
    def test_an_image_has_one_key_however_it_is_given(self, tmp_path, content, media_type):
        path = tmp_path / "no suffix"
        path.write_bytes(content)
        encoded = base64.b64encode(content).decode()
        given = [
            content,
            bytearray(content),
            memoryview(content),
            path,
            str(path),
            io.BytesIO(content),
            encoded,
            base64.encodebytes(content).decode(),
            f"data:{media_type};base64,{encoded}",
            f"data:image/x-wrong;base64,{encoded}",
            f"DATA:{media_type};charset=binary;Base64,{encoded.replace('=', '%3D')}",
            Image.of(content, media_type=media_type.upper()),
        ]
        assert {Conversation.user("?", image=each).digest for each in given} == {
            Conversation.user("?", image=Image.of(content)).digest
        }
        with path.open("rb") as file:
            assert Conversation.user("?", image=file) == Conversation.user("?", image=path)

    @pytest.mark.parametrize("content", [samples.PDF, "Grüße, text".encode(), samples.png()])
    def test_a_file_has_one_key_however_it_is_given(self, tmp_path, content):
        paths = [tmp_path / "a.bin", tmp_path / "b.pdf", tmp_path / "c.md"]
        for path in paths:
            path.write_bytes(content)
        encoded = base64.b64encode(content).decode()
        given = [content, *paths, io.BytesIO(content), f"data:;base64,{encoded}"]
        assert len({Conversation.user("?", file=each).digest for each in given}) == 1

    def test_the_common_misspelling_of_jpeg_is_jpeg(self):
        encoded = base64.b64encode(samples.JPEG).decode()
        assert Image.of(f"data:image/jpg;base64,{encoded}").media_type == "image/jpeg"
        assert Image.of(samples.JPEG, media_type="image/jpg") == Image.of(samples.JPEG)

    def test_a_key_is_made_of_the_content_that_is_on_disk_now(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(samples.png(1))
        conversation = Conversation.user("?", image=path)
        loaded, first = conversation.load(), conversation.digest
        path.write_bytes(samples.png(2))
        assert loaded.digest == first, "what was loaded is what is keyed"
        assert loaded.messages[0].images[0].data == samples.png(1), "and what is sent"
        assert conversation.digest == Conversation.user("?", image=samples.png(2)).digest != first
        assert conversation.add(Message.ai("!")).digest == Conversation.user("?", image=samples.png(2)).ai("!").digest

    def test_an_image_inside_a_tool_result_is_read_too(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(samples.png())
        by_path = Conversation().with_tool_result("1", [Text("see"), Image.of(path)])
        in_memory = Conversation().with_tool_result("1", [Text("see"), Image.of(samples.png())])
        assert not by_path.is_loaded
        assert by_path.digest == in_memory.digest == by_path.load().digest
        assert by_path.load().is_loaded


class TestPrefixes:
    @pytest.fixture
    def hashed(self, monkeypatch):
        """The messages that were hashed, in order."""
        seen = []
        extend = conversation_module.extend

        def counting(parent, message):
            seen.append(message)
            return extend(parent, message)

        monkeypatch.setattr(conversation_module, "extend", counting)
        return seen

    def test_a_shared_prefix_is_hashed_once(self, hashed):
        base = Conversation.system("long" * 1000).user("example").ai("answer")
        prompts = [base.user(str(number)) for number in range(50)]
        assert not hashed, "building prompts hashes nothing"
        assert len({prompt.digest for prompt in prompts}) == 50
        assert len(hashed) == 3 + 50

    def test_a_growing_history_is_hashed_once(self, hashed):
        conversation = Conversation()
        for number in range(100):
            conversation = conversation.user(str(number))
            assert conversation.digest
        assert len(hashed) == 100

    def test_a_shared_prefix_with_an_image_in_memory_is_hashed_once(self, hashed):
        base = Conversation.user("Look.", image=samples.png())
        assert len({base.user(str(number)).digest for number in range(20)}) == 20
        assert len(hashed) == 1 + 20

    def test_a_long_chain_needs_no_deep_recursion(self):
        conversation = Conversation()
        for number in range(5000):
            conversation = conversation.user(str(number))
        assert conversation.digest == Conversation(conversation.messages).digest

    def test_a_prefix_that_cannot_be_hashed_spoils_only_those_that_have_it(self):
        bad = Conversation.user("\ud800")
        for prompt in (bad, bad.user("a"), bad.user("b")):
            for _ in range(2):
                with pytest.raises(PromptError, match="surrogate"):
                    _ = prompt.digest

    def test_one_slow_prompt_does_not_hold_up_another_thread(self, monkeypatch):
        extend = conversation_module.extend
        entered, go_on = threading.Event(), threading.Event()

        def slow(parent, message):
            if message.parts[0].text == "slow":
                entered.set()
                assert go_on.wait(10)
            return extend(parent, message)

        monkeypatch.setattr(conversation_module, "extend", slow)
        thread = threading.Thread(target=lambda: Conversation.user("slow").digest)
        thread.start()
        assert entered.wait(10)
        other = threading.Thread(target=lambda: Conversation.user("quick").digest)
        other.start()
        other.join(10)
        was_held_up = other.is_alive()
        go_on.set()
        thread.join(10)
        assert not was_held_up


def test_equal_conversations_hash_alike_and_different_ones_are_unequal(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(samples.png())
    assert Conversation.user(image=path) == Conversation.user(image=samples.png())
    assert len({Conversation.user(image=path), Conversation.user(image=samples.png())}) == 1
    assert call({"a": 1}) != call({"a": True})
    assert call({"a": 1}) != call({"a": 1.0})
    assert len({call({"a": 1}), call({"a": True}), call({"a": 1})}) == 2
    assert Conversation.user("a") != "a"
    assert Conversation.user("a") != Message.user("a")


@given(some.conversations, some.conversations)
def test_equality_and_hash_agree_with_the_key(one, other):
    assert (one == other) == (one.digest == other.digest)
    assert one != other or hash(one) == hash(other)
    for message in one.messages:
        assert hash(message) == hash(Message(message.role, message.parts))


def test_namespaces_do_not_run_into_each_other():
    keys = {conversation_key(name, digest) for name in ("", "a", "a\n", "\n") for digest in (b"\x00" * 32, b"\n" * 32)}
    assert len(keys) == 8
