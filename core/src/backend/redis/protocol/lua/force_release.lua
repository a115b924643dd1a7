-- KEYS lock, queue · ARGV echo
-- ⇒ a list of one number, 1 released | 0 the lock was free; then the echo

local deleted = redis.pcall('DEL', KEYS[1])
if deleted == 1 then pcall(offer, KEYS[2], to_ms(clock_us())) end
return { deleted, tonumber(ARGV[1]) }
