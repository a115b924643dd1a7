-- KEYS n locks, n fences · ARGV owner, ttl_ms, min_token, fence_ms ⇒ token > 0 granted | -1 - left_ms held | 0 held without TTL

-- Nothing is written before everything that can fail has been read.
local call, count = redis.call, #KEYS / 2
local last = tonumber(ARGV[3])
for i = count + 1, #KEYS do
  local stored = call('GET', KEYS[i])
  if stored then last = math.max(last, tonumber(stored) or 0) end
end

-- A single lock needs no look beforehand: NX is the look.
local free = count == 1 or call('EXISTS', unpack(KEYS, 1, count)) == 0
for i = 1, count do
  free = free and call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2], 'NX')
end
if not free then
  -- The longest of what is left, because all must be free.
  local left = 0
  for i = 1, count do
    local ms = call('PTTL', KEYS[i])
    if ms == -1 then return 0 end
    left = math.max(left, ms)
  end
  return -1 - left
end

-- Above the last token and min_token, not behind the clock (µs). Kept until the clock has passed it, too.
local time = call('TIME')
local now, token, keep = time[1] * 1000000 + time[2], last + 1, ARGV[4]
if token <= now then
  token = now
else
  keep = string.format('%.0f', math.max(keep, (token - now) / 1000 + ARGV[2]))
end
local stored = string.format('%.0f', token)
for i = count + 1, #KEYS do
  call('SET', KEYS[i], stored, 'PX', keep)
end
return token
