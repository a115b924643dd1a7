-- KEYS lock, queue
-- ⇒ 1 released | 0 the lock was free

local deleted = redis.pcall('DEL', KEYS[1])
if deleted == 1 then pcall(wake_first, KEYS[2], to_ms(clock_us())) end
return deleted
