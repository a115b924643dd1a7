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

local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
