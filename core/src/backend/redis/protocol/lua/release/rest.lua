-- All other releases.

-- One MGET and one DEL for all: a command costs far more than a key adds to it. MGET returns nothing for a
-- key of another type, which is not the owner's.
local total_names = #KEYS / 2
local stored = redis.pcall('MGET', unpack(KEYS, 1, total_names))
if stored.err then return stored end

local replies, owned, owned_queues, count, lock_base, arg = {}, {}, {}, 0, 0, 2
while ARGV[arg] do
  local leases, names = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  for position = arg + 2, arg + 1 + leases do
    local owner, before = ARGV[position], count
    for i = lock_base + 1, lock_base + names do
      local key = KEYS[i]
      -- Once, even if two requests name the same lease.
      if stored[i] == owner and not owned[key] then
        count = count + 1
        owned[count], owned[key], owned_queues[count] = key, true, KEYS[total_names + i]
      end
    end
    replies[#replies + 1] = count - before
    lock_base = lock_base + names
  end
  arg = arg + 2 + leases
end
replies[#replies + 1] = tonumber(ARGV[1])
if count == 0 then
  -- Removes nothing. Only a server that takes writes may say that a lease is over: a primary that was demoted
  -- has old data.
  local write = redis.pcall('ZREM', KEYS[total_names + 1], '')
  return type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) and write or replies
end

local deleted = redis.pcall('DEL', unpack(owned))
if type(deleted) == 'table' then return deleted end
if redis.call('EXISTS', unpack(owned_queues)) > 0 then
  local now_ms = to_ms(clock_us())
  -- The leases are released whether or not waking succeeds: waiters also check by themselves.
  for _, queue in ipairs(owned_queues) do pcall(offer, queue, now_ms) end
end
return replies
