-- Put before every script that uses a wait queue. The queue of a resource is a sorted set of
--   `process:number:f`, a fair waiter, scored by its arrival (µs)
--   `process:number:u`, an unfair waiter, scored likewise, after all fair ones
--   `process:number:sf`, `process:number:su`, the same of a process that listens on a sharded channel of the
--   queue's slot, too
--   `process`, scored by the time (ms) at which it counts as dead unless it sends a heartbeat before
--   `offered`, scored by minus the highest score of the waiters to whom the free lock has been offered
--
-- A lock that becomes free is offered to all waiters in its queue at that moment, one after the other: the
-- first one is woken and attempts. If it is refused, because it waits for another lock too, it moves to the
-- end, and hands the offer on to the next one it was made to. A fair waiter that leaves, and kept others from
-- the lock, offers it to them in the same way.
-- Invariant: while a lock is free and the head of its queue is not fair, either no waiter up to `offered` is
-- left, or the first of them has been woken and has not attempted since. So each waiter that can take the
-- lock is woken, and attempts once for an offer: those that are refused do not keep waking each other.
-- Waiters beyond `offered` attempted after the offer, and wait for the lock, or for the fair head of a queue,
-- that refused them: its end is an offer to them. A fair head keeps its place and hands nothing on.
-- Heartbeats wake the first waiter of a free lock again, for offers that were lost with a process or a
-- connection, or with a PUBLISH that this user may not send.

local FIRST_ENTRY, LAST_FAIR, UNFAIR_OFFSET = '100000000000000', '4000000000000000', 4000000000000000
local ALIVE_MS, QUEUE_TTL_MS = 1500, 5000

-- How many dead waiters one call removes at most, from all queues together.
local removals_left = 256

local function process_of(entry)
  return string.sub(entry, 1, 32)
end

local function is_fair(entry)
  return string.sub(entry, -1) == 'f'
end

-- For how much longer a process counts as alive.
local function alive_ms(queue, process, now_ms)
  return (tonumber(redis.call('ZSCORE', queue, process)) or 0) - now_ms
end

-- A process of this queue that is alive.
local function any_alive(queue, now_ms)
  local after = string.format('(%.0f', now_ms)
  return redis.call('ZRANGEBYSCORE', queue, after, '(' .. FIRST_ENTRY, 'LIMIT', 0, 1)[1]
end

local function channel_of(queue, process)
  return string.match(queue, '^(.-):x?{') .. ':wake:' .. process
end

-- The highest score of a waiter to whom the lock has been offered.
local function offered(queue)
  return -(tonumber(redis.call('ZSCORE', queue, 'offered')) or 0)
end

-- Notes that the lock is offered to all who are in its queue now. Returns whether there is anyone.
local function note_offer(queue)
  local last = redis.call('ZREVRANGEBYSCORE', queue, '+inf', FIRST_ENTRY, 'WITHSCORES', 'LIMIT', 0, 1)
  if not last[1] then return false end
  redis.call('ZADD', queue, '-' .. last[2], 'offered')
  return true
end

-- The first waiter whose process is alive, when it is not the first one of the queue. The dead ones before it
-- are removed; if they are more than a call may remove, the second result is true.
local function first_after_dead(queue, now_ms)
  if not any_alive(queue, now_ms) then
    -- Freed in the background however long it is. If this user may not UNLINK, it expires.
    redis.pcall('UNLINK', queue)
    return nil, false
  end
  if removals_left == 0 then return nil, true end
  local entries = redis.call('ZRANGEBYSCORE', queue, FIRST_ENTRY, '+inf', 'LIMIT', 0, removals_left)
  local alive, dead, fair_died, first = {}, {}, false, nil
  for _, entry in ipairs(entries) do
    local process = process_of(entry)
    if alive[process] == nil then alive[process] = alive_ms(queue, process, now_ms) > 0 end
    if alive[process] then
      first = entry
      break
    end
    dead[#dead + 1], fair_died = entry, fair_died or is_fair(entry)
  end
  local more = not first and #entries == removals_left
  removals_left = removals_left - #dead
  redis.call('ZREM', queue, unpack(dead))
  if fair_died then note_offer(queue) end
  return first, more
end

-- The first waiter whose process is alive. If the second result is true, it is not known yet: dead ones are
-- before it.
local function first_alive(queue, now_ms)
  local entry = redis.call('ZRANGEBYSCORE', queue, FIRST_ENTRY, '+inf', 'LIMIT', 0, 1)[1]
  if not entry or alive_ms(queue, process_of(entry), now_ms) > 0 then return entry, false end
  return first_after_dead(queue, now_ms)
end

-- Has a process send a heartbeat now, which goes on removing dead waiters: no waiter has the number 0.
local function request_heartbeat(queue, now_ms)
  local process = any_alive(queue, now_ms)
  if process then redis.pcall('PUBLISH', channel_of(queue, process), '0') end
end

-- Wakes the first waiter that listens. With `offered_only`: only if it is an unfair one to whom the lock is
-- offered, also by the removal of a dead fair one.
local function wake_first(queue, now_ms, offered_only)
  while true do
    local entry, more = first_alive(queue, now_ms)
    if more then return request_heartbeat(queue, now_ms) end
    if not entry then return end
    if offered_only then
      local score = tonumber(redis.call('ZSCORE', queue, entry))
      if is_fair(entry) or score > offered(queue) then return end
    end
    local process = process_of(entry)
    local number = string.match(entry, ':(%d+):')
    if string.sub(entry, -2, -2) == 's' then
      -- PUBLISH would reach every node of the cluster. It is the way if no process listens, or may: after the
      -- slot has moved, for example, the process still listens on the node that had it.
      local prefix, tag = string.match(queue, '^(.-):(x?{.-})')
      local heard = redis.pcall('SPUBLISH', prefix .. ':wake:' .. tag .. ':' .. process, number)
      if type(heard) == 'number' and heard > 0 then return end
    end
    if redis.call('PUBLISH', channel_of(queue, process), number) > 0 then return end
    -- Its channels have no subscriber, so all waiters of this process count as dead.
    redis.call('ZREM', queue, process)
  end
end

-- Offers a lock that is free to all who are in its queue now.
local function offer(queue, now_ms)
  if note_offer(queue) then wake_first(queue, now_ms) end
end

-- Hands the offer of a free lock on to the next waiter it was made to.
local function hand_on(queue, now_ms)
  if offered(queue) > 0 then wake_first(queue, now_ms, true) end
end

local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function to_ms(us)
  return math.floor(us / 1000)
end

-- What pcall caught, as a reply: a string in Redis 6, a table in later versions.
local function error_reply(caught)
  return type(caught) == 'table' and caught or redis.error_reply(caught)
end

-- The reply for a request that is busy because of the name at this place among its own, for left_ms more.
local UNKNOWN_MS = 2 ^ 40 - 1
local function busy_reply(place, left_ms)
  return -1 - left_ms - (place - 1) * (UNKNOWN_MS + 1)
end

-- The reply for held locks KEYS[lock_base + 1 …]: the one that lasts longest counts, because all must be
-- free; or an error if one of them is not ours, because it never ends by itself.
local function held_reply(lock_base, names)
  local longest_ms, place = 0, 1
  for i = 1, names do
    local left_ms = redis.call('PTTL', KEYS[lock_base + i])
    if left_ms == -1 then
      local stored = redis.pcall('GET', KEYS[lock_base + i])
      return type(stored) == 'table' and stored or redis.error_reply('NOTTL The lock has no TTL')
    end
    if left_ms > longest_ms then longest_ms, place = math.min(left_ms, UNKNOWN_MS), i end
  end
  return busy_reply(place, longest_ms)
end

-- The reply for a request that is behind others in the queue of the name at this place. It names a lock that
-- is held, if one is, but not for how long: the waiter is woken when its turn comes.
local function behind_reply(place, lock_base, names)
  for i = 1, names > 1 and names or 0 do
    if redis.call('EXISTS', KEYS[lock_base + i]) == 1 then return busy_reply(i, UNKNOWN_MS) end
  end
  return busy_reply(place, UNKNOWN_MS)
end

-- Puts a waiter into the queues KEYS[queue_base + 1 …] with the same score in all of them: if two waiters
-- were in two queues in different order, they would wait for each other.
-- A waiter that brings its `place` gets that as its score: several servers must have the same order.
local function enqueue(lock_base, queue_base, names, waiter, now_us, place)
  local fair, queued = is_fair(waiter), 0
  for i = queue_base + 1, queue_base + names do
    if redis.call('ZSCORE', KEYS[i], waiter) then queued = queued + 1 end
  end
  -- An unfair waiter for several resources that found one held moves behind waiters that can use the others.
  local several = names > 1 and not fair
  local moves = queued < names or several
  local score = fair and math.max(now_us, tonumber(FIRST_ENTRY)) or now_us + UNFAIR_OFFSET
  if place then
    score = place
  elseif moves then
    -- After all of its kind, including those of the same call and those queued before a clock went back.
    for i = queue_base + 1, queue_base + names do
      local max = fair and '(' .. LAST_FAIR or '+inf'
      local last = redis.call('ZREVRANGEBYSCORE', KEYS[i], max, FIRST_ENTRY, 'WITHSCORES', 'LIMIT', 0, 1)
      score = math.max(score, (tonumber(last[2]) or 0) + 1, several and offered(KEYS[i]) + 1 or 0)
    end
  end
  score = string.format('%.0f', score)
  for i = queue_base + 1, queue_base + names do
    -- First what a server that is out of memory allows: after one write a script may make any other. An entry
    -- is small and short-lived, and without it waiters would lose their places.
    redis.call('PEXPIRE', KEYS[i], QUEUE_TTL_MS)
    if moves then redis.call('ZADD', KEYS[i], score, waiter) end
    redis.call('ZADD', KEYS[i], string.format('%.0f', to_ms(now_us) + ALIVE_MS), process_of(waiter))
    redis.call('PEXPIRE', KEYS[i], QUEUE_TTL_MS)
  end
  if not several then return end
  for i = 1, names do
    if redis.call('EXISTS', KEYS[lock_base + i]) == 0 then pcall(hand_on, KEYS[queue_base + i], to_ms(now_us)) end
  end
end

-- The place of the first of these queues in which a fair waiter is first, other than this waiter, or may be,
-- because that cannot be told yet; nil if there is none.
local function must_wait(queue_base, names, waiter, now_us)
  local now_ms = to_ms(now_us)
  for i = queue_base + 1, queue_base + names do
    local entry, more = first_alive(KEYS[i], now_ms)
    if more then request_heartbeat(KEYS[i], now_ms) end
    if more or (entry and entry ~= waiter and is_fair(entry)) then return i - queue_base end
  end
end
