-- KEYS n locks, n lines · ARGV process
-- ⇒ a list, for each: number > 0 of the process's waiter whose turn it is | 0 the process is not in line
--   | -1 nobody's turn | -1 - ms somebody else's turn, who is taken for dead after that

local names, replies = #KEYS / 2, {}
local now_ms = ms(clock_us())

local function beat(lock, line)
  if not redis.call('ZSCORE', line, ARGV[1]) then return 0 end
  redis.call('ZADD', line, string.format('%.0f', now_ms + ALIVE_MS), ARGV[1])
  redis.call('PEXPIRE', line, KEPT_MS)
  if redis.call('EXISTS', lock) == 1 then return -1 end
  local entry = first(line, now_ms)
  if not entry then return 0 end
  local process = process_of(entry)
  if process == ARGV[1] then return tonumber(string.match(entry, ':(%d+):')) end
  return -1 - life(line, process, now_ms)
end

for i = 1, names do
  local ok, reply = pcall(beat, KEYS[i], KEYS[names + i])
  replies[i] = ok and reply or 0
end
return replies
