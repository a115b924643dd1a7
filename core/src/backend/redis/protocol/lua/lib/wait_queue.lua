-- Put before every script that uses a wait queue. The queue of a resource is a sorted set of
--   `process:number:f`, a fair waiter, scored by its arrival (µs)
--   `process:number:u`, an unfair waiter, scored likewise, after all fair ones
--   `process`, scored by the time (ms) at which it counts as dead unless it sends a heartbeat before

local FIRST_ENTRY, LAST_FAIR, UNFAIR_OFFSET = '100000000000000', '4000000000000000', 4000000000000000
local ALIVE_MS, QUEUE_TTL_MS = 1500, 5000

local function process_of(entry)
  return string.sub(entry, 1, 32)
end

-- For how much longer a process counts as alive.
local function alive_ms(queue, process, now_ms)
  return (tonumber(redis.call('ZSCORE', queue, process)) or 0) - now_ms
end

-- The first waiter whose process is alive; dead ones before it are removed.
local function first_alive(queue, now_ms)
  while true do
    local entry = redis.call('ZRANGEBYSCORE', queue, FIRST_ENTRY, '+inf', 'LIMIT', 0, 1)[1]
    if not entry or alive_ms(queue, process_of(entry), now_ms) > 0 then return entry end
    redis.call('ZREM', queue, entry)
  end
end

-- Wakes the first waiter that listens, unless it is the caller.
local function wake_first(queue, now_ms, caller)
  local channel_prefix = string.match(queue, '^(.-):x?{') .. ':wake:'
  while true do
    local entry = first_alive(queue, now_ms)
    if not entry or entry == caller then return end
    local number = string.match(entry, ':(%d+):')
    if redis.call('PUBLISH', channel_prefix .. process_of(entry), number) > 0 then return end
    redis.call('ZREM', queue, entry)
  end
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

-- The reply for held locks KEYS[lock_base + 1 …]: the longest remaining time, because all must be free.
local function held_reply(lock_base, names)
  local longest = 0
  for i = lock_base + 1, lock_base + names do
    local left_ms = redis.call('PTTL', KEYS[i])
    if left_ms == -1 then return 0 end
    longest = math.max(longest, left_ms)
  end
  return -1 - longest
end

-- Puts a waiter into the queues KEYS[queue_base + 1 …] with the same score in all of them: if two waiters were in two
-- queues in different order, they would wait for each other.
local function enqueue(lock_base, queue_base, names, waiter, now_us)
  local fair, queued = string.sub(waiter, -1) == 'f', 0
  for i = queue_base + 1, queue_base + names do
    if redis.call('ZSCORE', KEYS[i], waiter) then queued = queued + 1 end
  end
  -- An unfair waiter for several resources that found one held moves behind waiters that can use the others.
  local moves = queued < names or (names > 1 and not fair)
  local score = fair and now_us or now_us + UNFAIR_OFFSET
  if moves then
    -- After all of its kind, including those of the same call and those queued before a clock went back.
    for i = queue_base + 1, queue_base + names do
      local max = fair and '(' .. LAST_FAIR or '+inf'
      local last = redis.call('ZREVRANGEBYSCORE', KEYS[i], max, FIRST_ENTRY, 'WITHSCORES', 'LIMIT', 0, 1)
      score = math.max(score, (tonumber(last[2]) or 0) + 1)
    end
  end
  score = string.format('%.0f', score)
  for i = queue_base + 1, queue_base + names do
    if moves then redis.call('ZADD', KEYS[i], score, waiter) end
    redis.call('ZADD', KEYS[i], string.format('%.0f', to_ms(now_us) + ALIVE_MS), process_of(waiter))
    redis.call('PEXPIRE', KEYS[i], QUEUE_TTL_MS)
  end
  if names == 1 or fair then return end
  for i = 1, names do
    if redis.call('EXISTS', KEYS[lock_base + i]) == 0 then
      wake_first(KEYS[queue_base + i], to_ms(now_us), waiter)
    end
  end
end

-- Whether a fair waiter is first in one of these queues, other than this waiter.
local function must_wait(queue_base, names, waiter, now_us)
  for i = queue_base + 1, queue_base + names do
    local entry = first_alive(KEYS[i], to_ms(now_us))
    if entry and entry ~= waiter and string.sub(entry, -1) == 'f' then return true end
  end
  return false
end
