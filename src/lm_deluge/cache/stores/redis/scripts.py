"""What the server does in one step: each script looks at keys and changes them, and no other command comes between."""

__all__ = ["ACQUIRE", "QUARANTINE", "RELEASE", "RENEW"]

# No lease is taken for longer than a few seconds, so one without an end, or with a late one, was not taken by us.
_OWNER = """
local function owner(key)
    if redis.call('TYPE', key)['ok'] == 'string' then
        return redis.call('GET', key)
    end
end
"""
ACQUIRE = (
    _OWNER
    + """
local got = {}
for i, key in ipairs(KEYS) do
    local left = redis.call('PTTL', key)
    local other = owner(key)
    if not other or other == ARGV[1] or left < 0 or left > 2 * ARGV[2] then
        redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
        got[i] = 1
    else
        got[i] = 0
    end
end
return got
"""
)
RENEW = (
    _OWNER
    + """
local held = {}
for i, key in ipairs(KEYS) do
    held[i] = owner(key) == ARGV[1] and redis.call('PEXPIRE', key, ARGV[2]) or 0
end
return held
"""
)
RELEASE = (
    _OWNER
    + """
for _, key in ipairs(KEYS) do
    if owner(key) == ARGV[1] then
        redis.call('DEL', key)
    end
end
"""
)
QUARANTINE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('RPUSH', KEYS[4], ARGV[2])
return 1
"""
