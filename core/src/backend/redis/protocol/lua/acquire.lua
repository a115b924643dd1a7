-- KEYS for each request n locks, n fences; then for all of them n queues
-- ARGV echo; then for each run of requests that are alike: their number, n, ttl_ms, min_token, fence_ms, 1 if they have waiters;
--      then the owner of each request, and its waiter if it has one
-- ⇒ a list with one reply a request: token > 0 granted | -1 - left_ms held | 0 held without a known end
--   | an error, nothing granted; then the echo
-- A waiter is in the queues if its request was not granted, and in none of them if it was.

local try = redis.pcall
local time = try('TIME')
local now_us = time.err and 0 or time[1] * 1000000 + time[2]
local stamp = string.format('%.0f', now_us)
local total_names = #KEYS / 3
local wrote = false
local has_waiters = redis.call('EXISTS', unpack(KEYS, 2 * total_names + 1)) > 0

local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

local function acquire(lock_base, names, owner, ttl_ms, min_token, fence_ms)
  if time.err then return time end
  local fence_base = lock_base + names
  -- A single lock needs no check beforehand: NX is the check, and a failed SET has written nothing.
  if names > 1 then
    for i = lock_base + 1, lock_base + names do
      if redis.call('EXISTS', KEYS[i]) == 1 then return held_reply(lock_base, names) end
    end
    for i = fence_base + 1, fence_base + names do
      local stored = try('GET', KEYS[i])
      if is_error(stored) then return stored end
    end
  end
  for i = lock_base + 1, lock_base + names do
    local set = try('SET', KEYS[i], owner, 'PX', ttl_ms, 'NX')
    if not set then return held_reply(lock_base, names) end
    if set.err then
      -- A server that is out of memory refuses even a SET that would write nothing.
      return names == 1 and redis.call('EXISTS', KEYS[i]) == 1 and held_reply(lock_base, names) or set
    end
  end

  -- The token is the clock (µs), which is usually above the last token and min_token.
  local last = min_token
  for i = fence_base + 1, fence_base + names do
    local stored = try('SET', KEYS[i], stamp, 'PX', fence_ms, 'GET')
    if is_error(stored) then
      redis.call('DEL', unpack(KEYS, lock_base + 1, lock_base + names))
      return stored
    end
    stored = tonumber(stored)
    if stored and stored > last then last = stored end
  end
  wrote = true
  if last < now_us then return now_us end
  -- A token ahead of the clock is kept at least until the clock has passed it.
  local token = last + 1
  fence_ms = string.format('%.0f', math.max(fence_ms, (token - now_us) / 1000 + ttl_ms))
  for i = fence_base + 1, fence_base + names do
    redis.call('SET', KEYS[i], string.format('%.0f', token), 'PX', fence_ms)
  end
  return token
end

-- For a request with a waiter, or with waiters before it. An error caught here has granted nothing, for example when a
-- queue is a key of another type.
local function acquire_in_turn(lock_base, queue_base, names, waiter, ...)
  local ok, behind = pcall(must_wait, queue_base, names, waiter, now_us)
  if not ok then return error_reply(behind) end
  -- A waiter behind others need not know when the lease ends: it is woken when its turn comes.
  local reply = behind and 0 or acquire(lock_base, names, ...)
  if not waiter then return reply end
  if type(reply) == 'number' and reply > 0 then
    -- If this fails, the entry is soon taken for dead.
    for i = queue_base + 1, queue_base + names do try('ZREM', KEYS[i], waiter) end
    return reply
  end
  -- After an error, too: it may have been woken, and must hand the offer on.
  has_waiters = true
  local queued, why = pcall(enqueue, lock_base, queue_base, names, waiter, now_us)
  return (queued or type(reply) ~= 'number') and reply or error_reply(why)
end

local replies, lock_base, queue_base, arg = {}, 0, 2 * total_names, 2
while ARGV[arg] do
  local count, names, ttl_ms = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), ARGV[arg + 2]
  local min_token, fence_ms, waits = tonumber(ARGV[arg + 3]), ARGV[arg + 4], ARGV[arg + 5] == '1'
  arg = arg + 6
  for reply = #replies + 1, #replies + count do
    local owner = ARGV[arg]
    if waits or has_waiters then
      local waiter = waits and ARGV[arg + 1]
      replies[reply] =
        acquire_in_turn(lock_base, queue_base, names, waiter, owner, ttl_ms, min_token, fence_ms)
    else
      replies[reply] = acquire(lock_base, names, owner, ttl_ms, min_token, fence_ms)
    end
    arg = arg + (waits and 2 or 1)
    lock_base, queue_base = lock_base + 2 * names, queue_base + names
  end
end
-- Removes nothing. Only a server that takes writes may say that a lock is held: a primary that was demoted has old data.
if not wrote then
  local write = try('ZREM', KEYS[2 * total_names + 1], '')
  if is_error(write) and string.find(write.err, 'READONLY', 1, true) then return write end
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
