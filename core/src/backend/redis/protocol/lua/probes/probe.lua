-- KEYS none · ARGV echo
-- ⇒ a list of one number, 1 scripts get the time and exact numbers here, as tokens need them | 0 they do not;
--   then the echo

local time = redis.call('TIME')
local stamp = string.format('%.0f', time[1] * 1000000 + time[2])
local exact = string.format('%.0f', 9007199254740991) == '9007199254740991'
return { (exact and string.match(stamp, '^%d+$')) and 1 or 0, tonumber(ARGV[1]) }
