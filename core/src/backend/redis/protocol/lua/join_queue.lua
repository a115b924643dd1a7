-- KEYS n locks, n queues · ARGV waiter
-- ⇒ 1 all are free and the waiter may try | otherwise held as in acquire.lua, and the waiter is queued

local names, now_us = #KEYS / 2, clock_us()
local behind = must_wait(names, names, ARGV[1], now_us)
if not behind and redis.call('EXISTS', unpack(KEYS, 1, names)) == 0 then return 1 end
enqueue(0, names, names, ARGV[1], now_us)
return behind and 0 or held_reply(0, names)
