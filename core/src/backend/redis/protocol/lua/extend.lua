-- KEYS for each lease n locks, n fences
-- ARGV echo; then for each run of leases that are alike: their number, n, ttl_ms, fence_ms; then the owner
--      of each lease
-- ⇒ a list with one reply a lease: 1 extended | 0 another owner's or free, nothing written
--   | an error, perhaps partly extended; then the echo
--   | one error for all, nothing written

local function extend(lock_base, names, owner, ttl_ms, fence_ms)
  for i = lock_base + 1, lock_base + names do
    local stored = redis.pcall('GET', KEYS[i])
    if type(stored) == 'table' then return stored end
    if stored ~= owner then return 0 end
  end
  -- Never shorter than what is left. Always a write, even without a change, so that the WAIT after it has an
  -- offset of this extension to wait for.
  for i = lock_base + 1, lock_base + 2 * names do
    local wanted_ms = i <= lock_base + names and ttl_ms or fence_ms
    local left_ms = redis.call('PTTL', KEYS[i])
    local set = redis.pcall('PEXPIRE', KEYS[i], string.format('%.0f', math.max(wanted_ms, left_ms)))
    if type(set) == 'table' then return set end
  end
  return 1
end

local replies, lock_base, arg, wrote = {}, 0, 2, false
while ARGV[arg] do
  local leases, names = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local ttl_ms, fence_ms = ARGV[arg + 2], ARGV[arg + 3]
  for owner = arg + 4, arg + 3 + leases do
    local reply = extend(lock_base, names, ARGV[owner], ttl_ms, fence_ms)
    wrote = wrote or reply == 1
    replies[#replies + 1] = reply
    lock_base = lock_base + 2 * names
  end
  arg = arg + 4 + leases
end
-- Removes nothing: a lock is no sorted set. Only a server that takes writes may say that a lease is lost: a
-- primary that was demoted has old data.
if not wrote then
  local write = redis.pcall('ZREM', KEYS[1], '')
  if type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) then return write end
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
