-- KEYS lock, line
-- ⇒ 1 ended | 0 it was free

local gone = redis.pcall('DEL', KEYS[1])
if gone == 1 then pcall(wake, KEYS[2], ms(clock_us())) end
return gone
