-- KEYS n locks, n queues · ARGV echo, waiter
-- ⇒ a list of one number, the queues the waiter was in; then the echo

local names, left = #KEYS / 2, 0
local now_ms = to_ms(clock_us())
-- A fair waiter may have kept the others from the lock. Another one may have been woken by an offer, and
-- leave nevertheless: the next one gets it instead.
local pass = is_fair(ARGV[2]) and offer or hand_on
for i = 1, names do
  local queue = KEYS[names + i]
  left = left + redis.call('ZREM', queue, ARGV[2])
  if redis.call('EXISTS', KEYS[i]) == 0 then pcall(pass, queue, now_ms) end
end
return { left, tonumber(ARGV[1]) }
