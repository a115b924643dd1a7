-- KEYS lock, fence ⇒ {owner, pttl_ms, token} held | {} free
local owner = redis.call('GET', KEYS[1])
if not owner then return {} end
return { owner, redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2]) or '0' }
