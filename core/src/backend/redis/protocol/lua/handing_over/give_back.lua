-- KEYS n locks · ARGV echo, the owner that gives back, the one that gets back
-- ⇒ a list of one reply: the number of locks that change their owner, each for the time it has left | an error,
--   perhaps for part of them; then the echo

local given = 0
for _, lock in ipairs(KEYS) do
  if redis.call('GET', lock) == ARGV[2] then
    local set = redis.pcall('SET', lock, ARGV[3], 'KEEPTTL')
    if set.err then return { set, tonumber(ARGV[1]) } end
    given = given + 1
  end
end
-- Removes nothing: a lock is no sorted set. Only a server that takes writes may say that there is nothing to
-- give back: a primary that was demoted has old data.
if given == 0 then
  local write = redis.pcall('ZREM', KEYS[1], '')
  if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end
end
return { given, tonumber(ARGV[1]) }
