-- KEYS none · ARGV echo, a key
-- ⇒ a list of the names of the commands that this user may not run in a script; then the echo

-- None of these calls writes anything: there is nothing to remove, and the values of the others are not
-- valid. What else they fail for does not matter here: in a cluster the key may be another node's. The
-- commands that are not here are not necessary.
local calls = {
  { 'TIME' },
  { 'EXISTS', ARGV[2] },
  { 'GET', ARGV[2] },
  { 'MGET', ARGV[2] },
  { 'PTTL', ARGV[2] },
  { 'SET', ARGV[2], '', 'PX', 'invalid' },
  { 'PEXPIRE', ARGV[2], 'invalid' },
  { 'DEL', ARGV[2] },
  { 'ZADD', ARGV[2], 'invalid', '' },
  { 'ZREM', ARGV[2], '' },
  { 'ZSCORE', ARGV[2], '' },
  { 'ZRANGEBYSCORE', ARGV[2], 0, 0 },
  { 'ZREVRANGEBYSCORE', ARGV[2], 0, 0 },
}
local missing = {}
for _, call in ipairs(calls) do
  local reply = redis.pcall(unpack(call))
  local said = type(reply) == 'table' and reply.err or ''
  -- Until Redis 7.0, and later.
  if string.find(said, "can't run this command", 1, true) or string.find(said, 'no permissions to run', 1, true) then
    missing[#missing + 1] = call[1]
  end
end
return { missing, tonumber(ARGV[1]) }
