-- KEYS for each lease n locks
-- ARGV echo; then for each run of leases with as many locks: their number, n; then the owner of each lease
-- ⇒ a list with one reply a lease: 1 all its locks are there | 0 not; then the echo
--   | an error for all

-- Removes nothing: a lock is no sorted set. Only a server that takes writes may say that a lease is lost: a
-- replica, or a primary that was demoted, has old data.
local write = redis.pcall('ZREM', KEYS[1], '')
if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end

local stored = redis.call('MGET', unpack(KEYS))
local replies, key, arg = {}, 0, 2
while ARGV[arg] do
  local leases, names = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  for owner = arg + 2, arg + 1 + leases do
    local held = 1
    for _ = 1, names do
      key = key + 1
      if stored[key] ~= ARGV[owner] then held = 0 end
    end
    replies[#replies + 1] = held
  end
  arg = arg + 2 + leases
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
