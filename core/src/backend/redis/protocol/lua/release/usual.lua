-- KEYS for each lease n locks; then for all of them n queues
-- ARGV echo; then for each run of leases with the same number of locks: their number, n; then the owner of
--      each lease
-- ⇒ a list with one reply a lease: the number of locks that were the owner's and are deleted now,
--   then the echo
--   | one error for all, nothing deleted

-- Making the functions that wake waiters costs a call more than a usual release does. So this part, which makes
-- none, comes first. It releases all leases if none of them has waiters and each lock is its owner's. Otherwise
-- it writes nothing, and `rest.lua` does everything.

local total_names = #KEYS / 2
local no_queues = redis.pcall('EXISTS', unpack(KEYS, total_names + 1)) == 0
local stored = no_queues and redis.pcall('MGET', unpack(KEYS, 1, total_names))
local usual = stored and not stored.err
if usual then
  local replies, count, lock_base, arg = {}, 0, 0, 2
  while usual and ARGV[arg] do
    local leases, names = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
    for position = arg + 2, arg + 1 + leases do
      local owner = ARGV[position]
      for i = lock_base + 1, lock_base + names do
        if stored[i] ~= owner then usual = false end
      end
      count = count + 1
      replies[count] = names
      lock_base = lock_base + names
    end
    arg = arg + 2 + leases
  end
  if usual then
    local deleted = redis.pcall('DEL', unpack(KEYS, 1, total_names))
    if type(deleted) == 'table' then return deleted end
    if deleted < total_names then
      -- Some of the requests name the same lease: it is released once.
      local seen, key = {}, 0
      for lease = 1, count do
        for _ = 1, replies[lease] do
          key = key + 1
          if seen[KEYS[key]] then replies[lease] = replies[lease] - 1 end
          seen[KEYS[key]] = true
        end
      end
    end
    replies[count + 1] = tonumber(ARGV[1])
    return replies
  end
end
