-- KEYS n locks, n fences · ARGV owner, ttl_ms, min_token ⇒ token > 0 granted | -1 - left_ms held | 0 held without TTL

-- Nothing is written before everything that can fail has been read.
local count = #KEYS / 2
local last = tonumber(ARGV[3])
for i = count + 1, #KEYS do
  local stored = tonumber(redis.call('GET', KEYS[i]) or 0) or 0
  if stored > last then last = stored end
end

-- The longest of what is left, because all must be free.
local function held()
  local left = -2
  for i = 1, count do
    local ms = redis.call('PTTL', KEYS[i])
    if ms == -1 then return 0 end
    if ms > left then left = ms end
  end
  return left >= 0 and -1 - left
end

-- A single lock needs no look beforehand: NX is the look.
if count > 1 then
  local reply = held()
  if reply then return reply end
end
for i = 1, count do
  if not redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2], 'NX') then return held() end
end

-- Token: above the last one and min_token, not behind the clock (µs). It is kept for seven days at least, and until
-- the clock has passed it.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local token = last + 1
local keep = 604800000
if token <= now then
  token = now
else
  keep = math.max(keep, (token - now) / 1000)
end
local stored, px = string.format('%.0f', token), string.format('%.0f', keep + ARGV[2])
for i = count + 1, #KEYS do
  redis.call('SET', KEYS[i], stored, 'PX', px)
end
return token
