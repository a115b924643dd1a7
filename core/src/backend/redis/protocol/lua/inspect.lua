-- KEYS lock, fence, queue · ARGV echo
-- ⇒ a list of {owner, token, left_ms, waiters} | nil if free; then the echo; left_ms is -1 without a TTL

-- Removes nothing. Only a server that takes writes may answer: a replica, or a primary that was demoted, has
-- old data.
local write = redis.pcall('ZREM', KEYS[3], '')
if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end

local owner = redis.call('GET', KEYS[1])
if not owner then return { owner, tonumber(ARGV[1]) } end
-- What another application wrote must not hide who holds it, and may be of any length.
local fence = redis.pcall('GET', KEYS[2])
local token = type(fence) == 'string' and string.sub(fence, 1, 32) or '0'
return { { string.sub(owner, 1, 256), token, redis.call('PTTL', KEYS[1]), count_waiters(KEYS[3]) }, tonumber(ARGV[1]) }
