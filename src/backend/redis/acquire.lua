-- KEYS n locks, n fences · ARGV owner, ttl_ms, min_token ⇒ token granted | -1 - pttl_ms held | -1 held without end
local n = #KEYS / 2
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local token = math.max(now, ARGV[3] + 1)
local pttl = -2
for i = 1, n do
  -- What can fail is read before anything is written.
  token = math.max(token, (redis.call('GET', KEYS[n + i]) or 0) + 1)
  local left = redis.call('PTTL', KEYS[i])
  if left == -1 then return -1 end
  pttl = math.max(pttl, left)
end
if pttl > -2 then return -1 - math.max(pttl, 1) end
local fence = string.format('%.0f', token)
local fence_ttl = string.format('%.0f', math.max(604800000, (token - now) / 1000) + ARGV[2])
for i = 1, n do
  redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2])
  redis.call('SET', KEYS[n + i], fence, 'PX', fence_ttl)
end
return token
