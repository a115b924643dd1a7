-- KEYS the note of a quorum · ARGV echo, what this client has, ttl_ms
-- ⇒ a list of what another client has noted and how long that stays (ms) | nil, and it is noted what this
--   client has; then the echo

local noted = redis.call('GET', KEYS[1])
if noted and noted ~= ARGV[2] then return { { noted, redis.call('PTTL', KEYS[1]) }, tonumber(ARGV[1]) } end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return { false, tonumber(ARGV[1]) }
