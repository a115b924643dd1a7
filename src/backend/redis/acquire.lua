-- For each request: KEYS n locks, n fences · ARGV n, owner, ttl_ms, min_token, fence_ms
-- ⇒ a list, for each: token > 0 granted | -1 - left_ms held | 0 held without TTL | an error, nothing written

local try = redis.pcall
local time = try('TIME')
local now = time.err and 0 or time[1] * 1000000 + time[2]
local stamp = string.format('%.0f', now)

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

-- The longest of what is left, because all must be free.
local function held(k, n)
  local left = 0
  for i = k + 1, k + n do
    local ms = redis.call('PTTL', KEYS[i])
    if ms == -1 then return 0 end
    left = math.max(left, ms)
  end
  return -1 - left
end

local function acquire(k, n, owner, ttl, min, keep)
  if failed(time) then return time end
  -- A single lock needs no look beforehand: NX is the look, and what fails has written nothing.
  if n > 1 then
    for i = k + 1, k + n do
      if redis.call('EXISTS', KEYS[i]) == 1 then return held(k, n) end
    end
    for i = k + n + 1, k + 2 * n do
      local stored = try('GET', KEYS[i])
      if failed(stored) then return stored end
    end
  end
  for i = k + 1, k + n do
    local set = try('SET', KEYS[i], owner, 'PX', ttl, 'NX')
    if not set then return held(k, n) end
    if set.err then return set end
  end

  -- The token is the clock (µs), which is above the last token and min_token, as a rule.
  local last = tonumber(min)
  for i = k + n + 1, k + 2 * n do
    local stored = try('SET', KEYS[i], stamp, 'PX', keep, 'GET')
    if failed(stored) then
      redis.call('DEL', unpack(KEYS, k + 1, k + n))
      return stored
    end
    last = math.max(last, tonumber(stored) or 0)
  end
  if last < now then return now end
  -- Kept until the clock has passed it, too.
  local token = last + 1
  keep = string.format('%.0f', math.max(keep, (token - now) / 1000 + ttl))
  for i = k + n + 1, k + 2 * n do
    redis.call('SET', KEYS[i], string.format('%.0f', token), 'PX', keep)
  end
  return token
end

local replies, k = {}, 0
for a = 1, #ARGV, 5 do
  local n = tonumber(ARGV[a])
  replies[#replies + 1] = acquire(k, n, ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4])
  k = k + 2 * n
end
return replies
