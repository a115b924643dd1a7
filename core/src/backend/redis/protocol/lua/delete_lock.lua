-- KEYS lock · ARGV echo, owner or nothing for any
-- ⇒ a list of one number, 1 deleted | 0 another owner's or free; then the echo

-- For a slot that is moving to another node, where a script with several keys would be refused. No waiter is
-- woken: they find out by their heartbeats.
local stored = redis.pcall('GET', KEYS[1])
if type(stored) == 'table' then return { stored, tonumber(ARGV[1]) } end
local deleted = stored and (stored == ARGV[2] or ARGV[2] == '') and redis.pcall('DEL', KEYS[1]) or 0
return { deleted, tonumber(ARGV[1]) }
