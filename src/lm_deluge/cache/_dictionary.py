"""The preset dictionary of the entry codec, version 1: what providers' answers have in common.

Deflate may refer back into it, so a short answer costs little more than its own words (259 bytes for a GSM8K answer
with its raw body). It is part of the file format: changing one byte makes stored entries unreadable, so a better
one gets a new version, and this one stays. A test pins its hash. The most frequent text stands last, where references
to it are shortest.
"""

__all__ = ["DICTIONARY_1"]

DICTIONARY_1: bytes = (
    b"chat.completion.chunk text_completion the of and to in is that for it as with on this are be or from by which "
    b"not have can will one all would there what about more when if your their has been The This In It To We I You So "
    b"therefore because number total each first second between answer per day week hours minutes cost dollars "
    b'```python\\n```json\\n"arguments":"{\\"query\\":\\"","type":"function","function":{"name":"'
    b"\xa4tool_call\xa4call_\xa9arguments\x80\xa4name\xa2id\xaatool_calls\xaetool_call_id\xabtool_result"
    b"\xa8thinking\xa9signature\xa8redacted\xa8logprobs\x91\xa5token\xa7logprob\xa5bytes\xactop_logprobs\x90"
    b'{"error":{"message":"","type":"invalid_request_error","param":null,"code":null}}'
    b'{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[{"type":"thinking",'
    b'"thinking":"","signature":""},{"type":"tool_use","id":"toolu_01","name":"","input":{}},{"type":"text","text":""}],'
    b'"stop_reason":"max_tokens","stop_reason":"tool_use","stop_reason":"end_turn","stop_sequence":null,'
    b'"stop_details":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
    b'"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":0,'
    b'"output_tokens_details":{"thinking_tokens":0},"service_tier":"standard"}}'
    b'{"id":"chatcmpl-","object":"chat.completion","created":17,"model":"gpt-4.1-mini-2025-04-14","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"","reasoning_content":"","tool_calls":[{"id":"call_","refusal":null,'
    b'"annotations":[]},"logprobs":null,"finish_reason":"length"}],"finish_reason":"tool_calls","finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":1,"prompt_tokens_details":{"cached_tokens":0,'
    b'"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
    b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default",'
    b'"system_fingerprint":"fp_"}'
    b"\xb0reasoning_tokens\xb5cache_write_1h_tokens\xb2cache_write_tokens\xb1cache_read_tokens\xc4raw_body"
    b"\xaemodel_internal\xacgpt-4.1-mini\xaemodel_external\xb7gpt-4.1-mini-2025-04-14\xa7content\x82\xa4role"
    b"\xa9assistant\xa5parts\x91\x82\xa4type\xa4text\xa4text\xd9\xa5usage\x82\xacinput_tokens\xcc\xadoutput_tokens\xcc"
    b"\xa4cost\xcb?\xadfinish_reason\xa4stop\xabstatus_code\xcc\xc8\xabresponse_id\xd9&chatcmpl-\xa8raw_body\xc5"
)
