-- KEYS lock · ARGV echo, owner or nothing for any, rest_ms or 0
-- ⇒ a list of one number, 1 deleted, or ends within rest_ms | 0 another owner's or free; then the echo

-- For a slot that is moving to another node, where a script with several keys would be refused. No waiter is
-- woken: they find out by their heartbeats.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then return { stored, tonumber(ARGV[1]) } end
if not stored or (stored ~= ARGV[2] and ARGV[2] ~= '') then return { 0, tonumber(ARGV[1]) } end
local rest_ms = tonumber(ARGV[3])
if rest_ms == 0 then return { redis.pcall('DEL', KEYS[1]), tonumber(ARGV[1]) } end
local left_ms = redis.call('PTTL', KEYS[1])
local longer = left_ms < 0 or left_ms > rest_ms
return { longer and redis.pcall('PEXPIRE', KEYS[1], rest_ms) or 1, tonumber(ARGV[1]) }
