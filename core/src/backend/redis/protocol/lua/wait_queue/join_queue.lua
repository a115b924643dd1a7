-- KEYS n locks, n queues · ARGV echo, waiter
-- ⇒ a list of one number, 1 all are free and the waiter may try | otherwise held as in acquire/begin.lua, and the
--   waiter is queued; or an error, and it is not; then the echo

local names, now_us, echo = #KEYS / 2, clock_us(), tonumber(ARGV[1])
local behind = must_wait(names, names, ARGV[2], now_us)
if not behind and redis.call('EXISTS', unpack(KEYS, 1, names)) == 0 then return { 1, echo } end
local reply = behind and behind_reply(behind, 0, names) or held_reply(0, names)
if type(reply) == 'number' then enqueue(0, names, names, ARGV[2], now_us) end
return { reply, echo }
