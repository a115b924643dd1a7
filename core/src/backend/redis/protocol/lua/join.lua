-- KEYS n locks, n lines · ARGV waiter
-- ⇒ 1 all are free, and it may try | as acquire.lua what is held: then it is in line

local names, now = #KEYS / 2, clock_us()
local behind = is_behind(names, names, ARGV[1], now)
if not behind and redis.call('EXISTS', unpack(KEYS, 1, names)) == 0 then return 1 end
line_up(0, names, names, ARGV[1], now)
return behind and 0 or held(0, names)
