-- KEYS key · ARGV echo
-- ⇒ {value, left_ms} | nil if it is not there; then the echo; left_ms is -1 without a TTL

-- For a slot that is moving to another node, where a script with several keys would be refused.
-- Removes nothing. Only a server that takes writes may answer: a replica, or a primary that was demoted, has
-- old data.
local write = redis.pcall('ZREM', KEYS[1], '')
if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end

local value = redis.call('GET', KEYS[1])
-- What another application wrote may be of any length; a holder's name has less than this.
return { value and { string.sub(value, 1, 1024), redis.call('PTTL', KEYS[1]) }, tonumber(ARGV[1]) }
