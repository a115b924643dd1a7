-- Goes on where `usual.lua` has stopped, or does everything. The two must agree.

-- Declared once more: making a function takes longer the more variables were declared after those that it
-- uses.
local try, find, number, now_us, stamp = try, find, number, now_us, stamp
local has_waiters, takes_writes = has_waiters, takes_writes
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

-- Undoes a grant because of a fence that is not a token of ours, or that was not written: of another type, or
-- not allowed.
local function undo(lock_base, names, fence, stored)
  redis.call('DEL', unpack(KEYS, lock_base + 1, lock_base + names))
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

-- Writes the fences of locks that are set. `odd`: what the only one was, if it is written already.
local function grant(lock_base, names, ttl_ms, min_token, fence_ms, odd)
  local fence_base = lock_base + names
  -- The token is the clock (µs), which is usually above the last token and min_token.
  local last = min_token
  for i = fence_base + 1, fence_base + names do
    local stored = odd or try('SET', KEYS[i], stamp, 'PX', fence_ms, 'GET')
    if stored then
      local token = number(stored)
      if not token or token >= LAST_TOKEN or find(stored, '%D') then
        return undo(lock_base, names, KEYS[i], stored)
      end
      if token > last then last = token end
    end
  end
  takes_writes = true
  if last < now_us then return now_us end
  -- A token ahead of the clock is kept at least until the clock has passed it.
  local token = last + 1
  fence_ms = string.format('%.0f', math.max(fence_ms, (token - now_us) / 1000 + ttl_ms))
  for i = fence_base + 1, fence_base + names do
    redis.call('SET', KEYS[i], string.format('%.0f', token), 'PX', fence_ms)
  end
  return token
end

local function acquire(lock_base, names, owner, ttl_ms, min_token, fence_ms)
  if refusal then return refusal end
  -- A single lock needs no check beforehand: NX is the check, and a failed SET has written nothing.
  local refused = names > 1 and refuse_several(lock_base, names)
  if refused then return refused end
  for i = lock_base + 1, lock_base + names do
    local set = try('SET', KEYS[i], owner, 'PX', ttl_ms, 'NX')
    if not set then return held_reply(lock_base, names) end
    if set.err then
      if i > lock_base + 1 then try('DEL', unpack(KEYS, lock_base + 1, i - 1)) end
      -- A server that is out of memory refuses even a SET that would write nothing.
      return names == 1 and redis.call('EXISTS', KEYS[i]) == 1 and held_reply(lock_base, names) or set
    end
  end
  return grant(lock_base, names, ttl_ms, min_token, fence_ms)
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

while left > 0 or argv[arg] do
  if left == 0 then
    left, names, ttl_ms = number(argv[arg]), number(argv[arg + 1]), argv[arg + 2]
    min_token, fence_ms, waits = number(argv[arg + 3]), argv[arg + 4], argv[arg + 5] == '1'
    arg = arg + 6
  end
  local owner, reply = argv[arg], nil
  if odd_fence then
    reply, odd_fence = grant(lock_base, names, ttl_ms, min_token, fence_ms, odd_fence), nil
  elseif waits or has_waiters then
    local waiter = waits and argv[arg + 1]
    reply = acquire_in_turn(lock_base, queue_base, names, waiter, owner, ttl_ms, min_token, fence_ms)
  else
    reply = acquire(lock_base, names, owner, ttl_ms, min_token, fence_ms)
  end
  done = done + 1
  replies[done] = reply
  arg, left = arg + (waits and 2 or 1), left - 1
  lock_base, queue_base = lock_base + 2 * names, queue_base + names
end
-- Removes nothing. Only a server that takes writes may say that a lock is held: a primary that was demoted
-- has old data.
if not takes_writes then
  local write = try('ZREM', keys[2 * total_names + 1], '')
  if is_error(write) and string.find(write.err, 'READONLY', 1, true) then return write end
end
replies[done + 1] = number(argv[1])
return replies
