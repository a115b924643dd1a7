-- KEYS lock, fence, queue · ARGV echo
-- ⇒ a list of {owner, token, left_ms} | nil if free; then the echo; left_ms is -1 without a TTL

-- Removes nothing. Only a server that takes writes may answer: a replica, or a primary that was demoted, has
-- old data.
local write = redis.pcall('ZREM', KEYS[3], '')
if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end

local owner = redis.call('GET', KEYS[1])
local held = owner and { owner, redis.call('GET', KEYS[2]) or '0', redis.call('PTTL', KEYS[1]) }
return { held, tonumber(ARGV[1]) }
