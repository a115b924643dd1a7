-- KEYS n locks, n queues · ARGV echo, waiter
-- ⇒ a list of one number, the queues the waiter was in; then the echo

local names, left = #KEYS / 2, 0
local now_ms = to_ms(clock_us())
for i = 1, names do
  local queue = KEYS[names + i]
  left = left + redis.call('ZREM', queue, ARGV[2])
  -- This waiter may have been woken by a release and leave nevertheless: the next one is woken instead.
  if redis.call('EXISTS', KEYS[i]) == 0 then pcall(wake_first, queue, now_ms) end
end
return { left, tonumber(ARGV[1]) }
