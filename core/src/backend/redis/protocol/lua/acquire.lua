-- KEYS for each request n locks, n fences; then for all of them n lines
-- ARGV for each run of requests that are alike: how many, n, ttl_ms, min_token, fence_ms, 1 if they wait; then for each
--      owner, and its waiter if it waits
-- ⇒ a list, for each: token > 0 granted | -1 - left_ms held | 0 held for nobody knows how long | an error, nothing granted
-- A waiter that is not granted is in line then; one that is granted is not.

local try = redis.pcall
local time = try('TIME')
local now = time.err and 0 or time[1] * 1000000 + time[2]
local stamp = string.format('%.0f', now)
local names = #KEYS / 3
local anybody_waits = redis.call('EXISTS', unpack(KEYS, 2 * names + 1)) > 0

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

local function acquire(k, n, owner, ttl, min, keep)
  if time.err then return time end
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
  local last = min
  for i = k + n + 1, k + 2 * n do
    local stored = try('SET', KEYS[i], stamp, 'PX', keep, 'GET')
    if failed(stored) then
      redis.call('DEL', unpack(KEYS, k + 1, k + n))
      return stored
    end
    stored = tonumber(stored)
    if stored and stored > last then last = stored end
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

-- Where somebody waits, or is about to. What is caught here has granted nothing, as when a line is a key of another type.
local function acquire_in_turn(k, l, n, waiter, ...)
  local ok, behind = pcall(is_behind, l, n, waiter, now)
  if not ok then return error_of(behind) end
  -- Whoever is behind others need not know when the lease ends: it is woken when its turn comes.
  local reply = behind and 0 or acquire(k, n, ...)
  if not waiter or type(reply) ~= 'number' then return reply end
  if reply > 0 then
    -- If that fails, it is taken for dead soon.
    for i = l + 1, l + n do try('ZREM', KEYS[i], waiter) end
    return reply
  end
  anybody_waits = true
  local stands, why = pcall(line_up, k, l, n, waiter, now)
  return stands and reply or error_of(why)
end

local replies, k, l, a = {}, 0, 2 * names, 1
while ARGV[a] do
  local count, n, ttl, min, keep = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), ARGV[a + 2], tonumber(ARGV[a + 3]), ARGV[a + 4]
  local waits = ARGV[a + 5] == '1'
  a = a + 6
  for r = #replies + 1, #replies + count do
    if waits or anybody_waits then
      replies[r] = acquire_in_turn(k, l, n, waits and ARGV[a + 1], ARGV[a], ttl, min, keep)
    else
      replies[r] = acquire(k, n, ARGV[a], ttl, min, keep)
    end
    a, k, l = a + (waits and 2 or 1), k + 2 * n, l + n
  end
end
return replies
