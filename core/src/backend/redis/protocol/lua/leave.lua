-- KEYS n locks, n lines · ARGV waiter
-- ⇒ how many of the lines it was in

local names, left = #KEYS / 2, 0
local now_ms = ms(clock_us())
for i = 1, names do
  local line = KEYS[names + i]
  left = left + redis.call('ZREM', line, ARGV[1])
  -- It may have been told of a release, and be leaving all the same.
  if redis.call('EXISTS', KEYS[i]) == 0 then pcall(wake, line, now_ms) end
end
return left
