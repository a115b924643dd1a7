-- KEYS for each lease n locks; then for all of them n queues
-- ARGV echo; then for each run of leases that are alike: their number, n, rest_ms; then the owner of each
--      lease
-- ⇒ a list with one reply a lease: the number of locks that are the owner's and end within rest_ms now,
--   then the echo
--   | one error for all, nothing changed

local total_names = #KEYS / 2
local stored = redis.pcall('MGET', unpack(KEYS, 1, total_names))
if stored.err then return stored end

local replies, lock_base, arg, wrote = {}, 0, 2, false
while ARGV[arg] do
  local leases, names, rest_ms = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  for position = arg + 3, arg + 2 + leases do
    local count = 0
    for i = lock_base + 1, lock_base + names do
      if stored[i] == ARGV[position] then
        -- Never longer than what is left.
        local left_ms = redis.call('PTTL', KEYS[i])
        if left_ms < 0 or left_ms > rest_ms then left_ms = rest_ms end
        -- Always a write, so that only a server that takes writes says that the lease was there.
        local set = redis.pcall('PEXPIRE', KEYS[i], math.max(left_ms, 1))
        if type(set) == 'table' then return set end
        wrote, count = true, count + 1
      end
    end
    replies[#replies + 1] = count
    lock_base = lock_base + names
  end
  arg = arg + 3 + leases
end
replies[#replies + 1] = tonumber(ARGV[1])
if not wrote then
  -- Removes nothing. Only a server that takes writes may say that a lease is over: a primary that was demoted
  -- has old data.
  local write = redis.pcall('ZREM', KEYS[total_names + 1], '')
  return type(write) == 'table' and string.find(write.err, 'READONLY', 1, true) and write or replies
end
-- The first waiter attempts, and learns how long the rest is: nothing else wakes it when that is over.
if redis.call('EXISTS', unpack(KEYS, total_names + 1)) > 0 then
  local now_ms = to_ms(clock_us())
  for i = total_names + 1, 2 * total_names do pcall(offer, KEYS[i], now_ms) end
end
return replies
