"""What may be given as a prompt and as a batch, and what is refused where."""

import pytest

from lm_deluge.errors import LMDelugeError, MediaError, PromptError
from lm_deluge.prompt import Conversation, File, Image, Message, Text, ToolCall, ToolResult, as_conversation, as_prompts

from . import samples

HI = Conversation((Message("user", (Text("Hi"),)),))
PNG_URL = Image.of(samples.png()).data_url()
PDF_URL = File.of(samples.PDF).data_url()


@pytest.mark.parametrize(
    "prompt",
    [
        "Hi",
        HI,
        Message.user("Hi"),
        [Message.user("Hi")],
        (Message.user("Hi"),),
        [{"role": "user", "content": "Hi"}],
        ({"role": "user", "content": "Hi"},),
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    ],
)
def test_every_form_of_a_prompt(prompt):
    assert as_conversation(prompt) == HI


def test_a_conversation_is_taken_as_it_is():
    assert as_conversation(HI) is HI
    assert as_conversation(Conversation()).messages == ()


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (5, "a int"),
        (None, "a NoneType"),
        (float("nan"), "a float"),
        (b"Hi", "a bytes"),
        (bytearray(b"Hi"), "a bytearray"),
        ([], "an empty list"),
        ((), "an empty tuple"),
        ({"role": "user", "content": "Hi"}, "a dict"),
        (["Hi"], "a list of str"),
        ([Message.user("Hi"), {"role": "user", "content": "Hi"}], "a list of Message, dict"),
        ({"Hi"}, "a set"),
        (iter(["Hi"]), "a list_iterator"),
    ],
)
def test_what_is_no_prompt_is_named(prompt, said):
    with pytest.raises(PromptError, match=f"not {said}"):
        as_conversation(prompt)


@pytest.mark.parametrize("prompt", ["Hi", Message.user("Hi"), HI])
def test_one_bare_prompt_is_a_batch_of_one(prompt):
    assert list(as_prompts(prompt)) == [prompt]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_bare_openai_list_is_one_prompt_and_a_list_of_them_is_a_batch(kind):
    messages = kind([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert [as_conversation(each) for each in as_prompts(messages)] == [Conversation.system("Be brief.").user("Hi")]
    assert len(list(as_prompts([messages, messages]))) == 2
    assert len(list(as_prompts([messages, "Hi", Message.user("Hi")]))) == 3


def test_any_iterable_is_a_batch_and_is_not_read_ahead():
    read = []

    def generate():
        for number in range(3):
            read.append(number)
            yield str(number)

    prompts = as_prompts(generate())
    assert not read
    assert next(iter(prompts)) == "0"
    assert read == [0]
    for batch in (["a", "b"], ("a", "b"), {"a": 1, "b": 2}.keys(), map(str, "ab"), []):
        assert len([as_conversation(each) for each in as_prompts(batch)]) == (2 if batch != [] else 0)


@pytest.mark.parametrize("prompts", [{"a": 1}, {"role": "user", "content": "Hi"}, 5, None, b"Hi", bytearray(b"Hi")])
def test_what_holds_no_prompts_is_a_type_error(prompts):
    with pytest.raises(TypeError, match=f"a {type(prompts).__name__}"):
        as_prompts(prompts)


def test_one_bad_item_leaves_the_others_alone():
    outcomes = []
    for item in as_prompts(["Hi", 5, None, [], [{"role": "nobody"}], Message.user("Hi")]):
        try:
            outcomes.append(as_conversation(item))
        except PromptError as error:
            outcomes.append(error)
    assert [isinstance(each, Conversation) for each in outcomes] == [True, False, False, False, False, True]


class TestOpenAIStyle:
    def test_the_whole_vocabulary(self):
        conversation = Conversation.from_openai_chat(
            [
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Look:"},
                        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": "low"}},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                        {"type": "file", "file": {"file_data": PDF_URL, "filename": "a.pdf"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": [1, 2.5]}'}},
                        {"id": "2", "type": "function", "function": {"name": "now", "arguments": ""}},
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "3.5"},
                {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "noon"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "Done"}, {"type": "refusal", "refusal": "No"}],
                },
                {"role": "assistant", "content": None, "refusal": "I cannot."},
            ]
        )
        assert conversation.messages == (
            Message.system("Be brief."),
            Message(
                "user",
                (
                    Text("Look:"),
                    Image.of(samples.png(), detail="low"),
                    Image(url="https://example.com/a.png"),
                    File.of(samples.PDF, filename="a.pdf"),
                ),
            ),
            Message("assistant", (ToolCall("1", "add", {"a": [1, 2.5]}), ToolCall("2", "now"))),
            Message("tool", (ToolResult("1", "3.5"), ToolResult("2", (Text("noon"),)))),
            Message("assistant", (Text("Done"), Text("No"))),
            Message.ai("I cannot."),
        )

    def test_a_dump_of_the_sdk_with_its_empty_fields(self):
        conversation = Conversation.from_openai_chat(
            [
                {
                    "role": "assistant",
                    "content": "4",
                    "refusal": None,
                    "audio": None,
                    "function_call": None,
                    "annotations": [],
                    "tool_calls": None,
                },
                {
                    "role": "user",
                    "name": None,
                    "content": [
                        {"type": "image_url", "image_url": {"url": PNG_URL, "detail": None}},
                        {"type": "file", "file": {"file_data": PDF_URL, "file_id": None, "filename": None}},
                    ],
                },
            ]
        )
        assert conversation == Conversation.ai("4").add(
            Message("user", (Image.of(samples.png()), File.of(samples.PDF)))
        )

    def test_the_message_objects_of_the_official_sdk(self):
        from openai.types.chat import ChatCompletionMessage

        message = ChatCompletionMessage.model_validate(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            }
        )
        expected = Conversation((Message("assistant", (ToolCall("1", "f", {"a": 1}),)),))
        assert Conversation.from_openai_chat([message.model_dump()]) == expected

    @pytest.mark.parametrize(
        ("content", "result"),
        [("", ""), (None, ""), ([], ""), ("a", "a"), ([{"type": "text", "text": ""}], (Text(""),))],
    )
    def test_results_of_tools(self, content, result):
        (message,) = Conversation.from_openai_chat([{"role": "tool", "tool_call_id": "1", "content": content}]).messages
        assert message == Message("tool", (ToolResult("1", result),))

    @pytest.mark.parametrize(
        ("arguments", "kept"),
        [
            ('{"a": 1}', {"a": 1}),
            ({"a": 1}, {"a": 1}),
            ("", {}),
            ("{}", {}),
            ('{"a":', {"_raw": '{"a":'}),
            ("[1]", {"_raw": "[1]"}),
            ("null", {"_raw": "null"}),
            ('{"a": NaN}', {"_raw": '{"a": NaN}'}),
            ('{"a": 1e999}', {"_raw": '{"a": 1e999}'}),
            ('{"a": 123456789012345678901234567890}', {"_raw": '{"a": 123456789012345678901234567890}'}),
            ('{"a":' * 300 + "1" + "}" * 300, {"_raw": '{"a":' * 300 + "1" + "}" * 300}),
            ('{"a":' * 99_999, {"_raw": '{"a":' * 99_999}),
            ('{"a": "\ud800"}', {"_raw": '{"a": "\ud800"}'}),
        ],
        ids=range(13),
    )
    def test_arguments_that_do_not_parse_are_kept_as_text(self, arguments, kept):
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        (message,) = Conversation.from_openai_chat([{"role": "assistant", "tool_calls": [call]}]).messages
        assert message.tool_calls[0].arguments == kept

    @pytest.mark.parametrize(
        ("message", "where"),
        [
            ("text", r"messages\[1\]"),
            ({}, r"messages\[1\] has the role None"),
            ({"role": "nobody", "content": "a"}, r"messages\[1\] has the role 'nobody'"),
            ({"role": ["user"], "content": "a"}, r"messages\[1\] has the role \['user'\]"),
            ({"role": "user", "content": "a", "name": "Bob"}, r"messages\[1\] has the field 'name'"),
            ({"role": "user", "content": "a", "flag": False}, r"messages\[1\] has the field 'flag'"),
            ({"role": "user", "content": "a", "tool_calls": [1]}, r"messages\[1\] has the field 'tool_calls'"),
            ({"role": "user", "content": 5}, r"messages\[1\].content is a int"),
            ({"role": "user", "content": {"type": "text", "text": "a"}}, r"messages\[1\].content is a dict"),
            ({"role": "user", "content": ["a"]}, r"messages\[1\].content\[0\] is not an object"),
            ({"role": "user", "content": [{"text": "a"}]}, r"messages\[1\].content\[0\] is not an object"),
            ({"role": "user", "content": [{"type": "text", "text": 5}]}, r"content\[0\] of type 'text'"),
            (
                {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
                r"messages\[1\].content\[0\] has the field 'cache_control'",
            ),
            (
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
                r"messages\[1\].content\[0\] of type 'input_audio'",
            ),
            ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, r"content\[0\] of type 'file'"),
            (
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG_URL, "x": 1}}]},
                r"messages\[1\].content\[0\].image_url has the field 'x'",
            ),
            (
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG_URL, "detail": "most"}}]},
                r"messages\[1\].content\[0\].image_url.*detail='most'",
            ),
            (
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,???"}}]},
                r"messages\[1\].content\[0\].image_url.url: A data URL",
            ),
            ({"role": "assistant", "refusal": 5}, r"messages\[1\].refusal is 5"),
            ({"role": "assistant", "reasoning_content": "hm"}, r"messages\[1\] has the field 'reasoning_content'"),
            ({"role": "assistant", "tool_calls": 5}, r"messages\[1\].tool_calls is a int"),
            ({"role": "assistant", "tool_calls": ["a"]}, r"messages\[1\].tool_calls\[0\] needs"),
            (
                {"role": "assistant", "tool_calls": [{"id": None, "function": {"name": "f", "arguments": "{}"}}]},
                r"messages\[1\].tool_calls\[0\] needs",
            ),
            (
                {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f"}}]},
                r"messages\[1\].tool_calls\[0\] needs",
            ),
            (
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}", "lost": "x"}}],
                },
                r"messages\[1\].tool_calls\[0\].function has the field 'lost'",
            ),
            ({"role": "tool", "content": "a"}, r"messages\[1\].tool_call_id is None"),
            ({"role": "tool", "content": "a", "tool_call_id": "1", "name": "f"}, r"messages\[1\] has the field 'name'"),
            (
                {"role": "tool", "tool_call_id": "1", "content": [{"type": "file", "file": {"file_data": PDF_URL}}]},
                r"messages\[1\].content holds a file",
            ),
        ],
    )
    def test_what_has_no_counterpart_is_refused_and_named(self, message, where):
        with pytest.raises(PromptError, match=where):
            as_conversation([{"role": "user", "content": "Hi"}, message])

    def test_a_list_cannot_make_us_send_a_local_file(self, tmp_path):
        secret = tmp_path / "secret.txt"
        secret.write_text("password")
        picture = tmp_path / "a.png"
        picture.write_bytes(samples.png())
        for part in (
            {"type": "file", "file": {"file_data": str(secret)}},
            {"type": "image_url", "image_url": {"url": str(picture)}},
            {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        ):
            with pytest.raises(PromptError, match="neither a data URL nor"):
                Conversation.from_openai_chat([{"role": "user", "content": [part]}])

    def test_base64_without_a_data_url_is_read(self):
        encoded = File.of(samples.PDF).base64()
        part = {"type": "file", "file": {"file_data": encoded}}
        assert as_conversation([{"role": "user", "content": [part]}]) == Conversation.user(file=samples.PDF)

    def test_errors_are_of_this_package(self):
        with pytest.raises(LMDelugeError):
            as_conversation([{"role": "user"}, 5])
        part = {"type": "image_url", "image_url": {"url": "data:text/plain;base64,aGk="}}
        with pytest.raises(MediaError):
            as_conversation([{"role": "user", "content": [part]}])
