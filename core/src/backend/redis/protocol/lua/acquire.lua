-- KEYS for each request n locks, n fences; then for all of them n queues
-- ARGV echo; then for each run of requests that are alike: their number, n, ttl_ms, min_token, fence_ms,
--      1 if they have waiters; then the owner of each request, and its waiter if it has one
-- ⇒ a list with one reply a request: token > 0 granted | -1 - left_ms - 2^40 * (place - 1) the name at this
--   place is held, or has others queued for it; left_ms is 2^40 - 1 if its end is not known | an error,
--   nothing granted; then the echo
-- A waiter is in the queues if its request was not granted, and in none of them if it was.

local try, find, number = redis.pcall, string.find, tonumber
local time = try('TIME')
local now_us = time.err and 0 or time[1] * 1000000 + time[2]
local stamp = string.format('%.0f', now_us)
local total_names = #KEYS / 3
local wrote = false
local has_waiters = redis.call('EXISTS', unpack(KEYS, 2 * total_names + 1)) > 0
-- Every token is below 2^53, so that doubles hold it exactly: from this one on there is no next token.
local LAST_TOKEN = 2 ^ 53 - 1

local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

-- There is no token above the clock (place 0), or above what the fence at this place holds.
local function no_token(place, value)
  return redis.error_reply('NOTOKEN ' .. place .. ' ' .. string.gsub(string.sub(value, 1, 40), '[^ -~]', '?'))
end

-- Why nothing can be granted.
local refusal = time.err and time or now_us > LAST_TOKEN and no_token(0, stamp)

-- The reply for several names of which one is held, or has a fence that is not a token of ours; nil if there
-- is none.
local function refuse_several(lock_base, names)
  for i = lock_base + 1, lock_base + names do
    if redis.call('EXISTS', KEYS[i]) == 1 then return held_reply(lock_base, names) end
  end
  for place = 1, names do
    local stored = try('GET', KEYS[lock_base + names + place])
    if is_error(stored) then return stored end
    local token = stored and number(stored)
    if stored and (not token or token >= LAST_TOKEN or find(stored, '%D')) then return no_token(place, stored) end
  end
end

-- Undoes the grant of a single name whose fence is not a token of ours, or a key of another type, which was
-- not written.
local function refuse_single(lock, fence, stored)
  redis.call('DEL', lock)
  if is_error(stored) then return stored end
  local token = not find(stored, '%D') and number(stored)
  if token then
    -- As below: until the clock has passed it, or nearly for ever.
    local left_ms = math.min((token - now_us) / 1000, LAST_TOKEN)
    redis.call('SET', fence, stored, 'PX', string.format('%.0f', math.max(left_ms, 1)))
  else
    -- The text of another program comes back without the TTL it may have had: SET ... GET has dropped that
    -- before it shows the text, and to look first would cost every call one more command.
    redis.call('SET', fence, stored)
  end
  return no_token(1, stored)
end

local function acquire(lock_base, names, owner, ttl_ms, min_token, fence_ms)
  if refusal then return refusal end
  local fence_base = lock_base + names
  -- A single lock needs no check beforehand: NX is the check, and a failed SET has written nothing.
  local refused = names > 1 and refuse_several(lock_base, names)
  if refused then return refused end
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
    if stored then
      local token = number(stored)
      if not token or token >= LAST_TOKEN or find(stored, '%D') then
        return refuse_single(KEYS[lock_base + 1], KEYS[i], stored)
      end
      if token > last then last = token end
    end
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

-- For a request with a waiter, or with waiters before it. An error caught here has granted nothing, for
-- example when a queue is a key of another type.
local function acquire_in_turn(lock_base, queue_base, names, waiter, ...)
  local ok, behind = pcall(must_wait, queue_base, names, waiter, now_us)
  if not ok then return error_reply(behind) end
  local reply = behind and behind_reply(behind, lock_base, names) or acquire(lock_base, names, ...)
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
-- Removes nothing. Only a server that takes writes may say that a lock is held: a primary that was demoted
-- has old data.
if not wrote then
  local write = try('ZREM', KEYS[2 * total_names + 1], '')
  if is_error(write) and string.find(write.err, 'READONLY', 1, true) then return write end
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
