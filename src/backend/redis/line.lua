-- Shared by the scripts below. A resource's line is a sorted set:
--   `process:number:f`, a fair waiter, by when it came (µs)
--   `process:number:u`, one that is not fair, likewise, behind all that are
--   `process`, by when it is taken for dead unless it shows life before (ms)

local ENTRIES, BEHIND, ALIVE_MS, KEPT_MS = '100000000000000', 4000000000000000, 1500, 5000

local function process_of(entry)
  return string.sub(entry, 1, 32)
end

-- For how much longer a process counts as alive.
local function life(line, process, now_ms)
  return (tonumber(redis.call('ZSCORE', line, process)) or 0) - now_ms
end

-- The first in line that lives; the dead before it are taken out.
local function first(line, now_ms)
  while true do
    local entry = redis.call('ZRANGEBYSCORE', line, ENTRIES, '+inf', 'LIMIT', 0, 1)[1]
    if not entry or life(line, process_of(entry), now_ms) > 0 then return entry end
    redis.call('ZREM', line, entry)
  end
end

-- Tells the first in line that hears it.
local function wake(line, channels, now_ms)
  while true do
    local entry = first(line, now_ms)
    if not entry then return end
    if redis.call('PUBLISH', channels .. process_of(entry), string.match(entry, ':(%d+):')) > 0 then return end
    redis.call('ZREM', line, entry)
  end
end

local function clock_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function ms(us)
  return math.floor(us / 1000)
end

-- Of the locks KEYS[k + 1 …], the longest of what is left, because all must be free.
local function held(k, n)
  local left = 0
  for i = k + 1, k + n do
    local pttl = redis.call('PTTL', KEYS[i])
    if pttl == -1 then return 0 end
    left = math.max(left, pttl)
  end
  return -1 - left
end

-- Puts a waiter into the lines KEYS[l + 1 …].
local function line_up(l, n, waiter, now)
  local came = string.format('%.0f', string.sub(waiter, -1) == 'f' and now or now + BEHIND)
  for i = l + 1, l + n do
    redis.call('ZADD', KEYS[i], 'NX', came, waiter)
    redis.call('ZADD', KEYS[i], string.format('%.0f', ms(now) + ALIVE_MS), process_of(waiter))
    redis.call('PEXPIRE', KEYS[i], KEPT_MS)
  end
end

-- Whether a fair waiter comes before in one of these lines.
local function is_behind(l, n, waiter, now)
  for i = l + 1, l + n do
    local entry = first(KEYS[i], ms(now))
    if entry and entry ~= waiter and string.sub(entry, -1) == 'f' then return true end
  end
  return false
end
