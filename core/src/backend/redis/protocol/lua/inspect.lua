-- KEYS lock, fence ⇒ {owner, token, left_ms} | nil if free; left_ms is -1 without a TTL

local owner = redis.call('GET', KEYS[1])
if not owner then return false end
return { owner, redis.call('GET', KEYS[2]) or '0', redis.call('PTTL', KEYS[1]) }
