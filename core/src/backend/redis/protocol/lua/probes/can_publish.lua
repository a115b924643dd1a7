-- KEYS none · ARGV echo, channel
-- ⇒ a list of one number, 1 this user may publish there | 0 it may not, or the server has no PUBLISH; then
--   the echo

local reply = redis.pcall('PUBLISH', ARGV[2], '')
return { type(reply) == 'table' and 0 or 1, tonumber(ARGV[1]) }
