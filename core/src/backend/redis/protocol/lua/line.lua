-- Shared by the scripts below. A resource's line is a sorted set:
--   `process:number:f`, a fair waiter, by when it came (µs)
--   `process:number:u`, one that is not fair, likewise, behind all that are
--   `process`, by when it is taken for dead unless it shows life before (ms)

local ENTRIES, LAST_FAIR, BEHIND, ALIVE_MS, KEPT_MS = '100000000000000', '4000000000000000', 4000000000000000, 1500, 5000

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

-- Tells the first in line that hears it, unless it is the one that came here.
local function wake(line, now_ms, visitor)
  local channels = string.match(line, '^(.-):x?{') .. ':wake:'
  while true do
    local entry = first(line, now_ms)
    if not entry or entry == visitor then return end
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

-- What pcall caught, as a reply: a string in Redis 6, a table since.
local function error_of(caught)
  return type(caught) == 'table' and caught or redis.error_reply(caught)
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

-- Puts a waiter into the lines KEYS[l + 1 …], all at the same place: if two stood in two lines in different order, each would
-- wait for the other.
local function line_up(k, l, n, waiter, now)
  local fair, stands = string.sub(waiter, -1) == 'f', 0
  for i = l + 1, l + n do
    if redis.call('ZSCORE', KEYS[i], waiter) then stands = stands + 1 end
  end
  -- One that waits for several, and is refused for one of them, goes behind those who may take another.
  local moves = stands < n or (n > 1 and not fair)
  local came = fair and now or now + BEHIND
  if moves then
    -- Behind all of its kind, also those who came in the same call, or before a clock went back.
    for i = l + 1, l + n do
      local last = redis.call('ZREVRANGEBYSCORE', KEYS[i], fair and '(' .. LAST_FAIR or '+inf', ENTRIES, 'WITHSCORES', 'LIMIT', 0, 1)
      came = math.max(came, (tonumber(last[2]) or 0) + 1)
    end
  end
  came = string.format('%.0f', came)
  for i = l + 1, l + n do
    if moves then redis.call('ZADD', KEYS[i], came, waiter) end
    redis.call('ZADD', KEYS[i], string.format('%.0f', ms(now) + ALIVE_MS), process_of(waiter))
    redis.call('PEXPIRE', KEYS[i], KEPT_MS)
  end
  if n == 1 or fair then return end
  for i = 1, n do
    if redis.call('EXISTS', KEYS[k + i]) == 0 then wake(KEYS[l + i], ms(now), waiter) end
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
