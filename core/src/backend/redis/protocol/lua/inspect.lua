-- KEYS lock, fence · ARGV echo
-- ⇒ a list of {owner, token, left_ms} | nil if free; then the echo; left_ms is -1 without a TTL

local owner = redis.call('GET', KEYS[1])
local held = owner and { owner, redis.call('GET', KEYS[2]) or '0', redis.call('PTTL', KEYS[1]) }
return { held, tonumber(ARGV[1]) }
