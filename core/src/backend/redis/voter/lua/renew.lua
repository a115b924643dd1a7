-- KEYS for each lease n locks, n fences
-- ARGV echo; then for each lease: n, owner, ttl_ms, token, fence_ms, 1 to take what is free
-- ⇒ a list of the time (µs); for each lease: 1 extended | 2 free here, and taken if that is wanted, which is
--   no vote | 3 another owner's | an error, perhaps partly extended; then the echo
--   | one error for all, nothing written

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local wrote = false

local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

local function renew(lock_base, names, owner, ttl_ms, token, fence_ms, heal)
  local missing = false
  for i = lock_base + 1, lock_base + names do
    local stored = redis.pcall('GET', KEYS[i])
    if is_error(stored) then return stored end
    if stored and stored ~= owner then return 3 end
    missing = missing or not stored
  end
  if missing and not heal then return 2 end
  for i = lock_base + 1, lock_base + names do
    -- Never shorter than what is left.
    local lasts_ms = string.format('%.0f', math.max(ttl_ms, redis.call('PTTL', KEYS[i])))
    local set = redis.pcall('SET', KEYS[i], owner, 'PX', lasts_ms)
    if is_error(set) then return set end
  end
  for i = lock_base + names + 1, lock_base + 2 * names do
    -- It never falls: a proposal that failed may have raised it since.
    local stored = redis.pcall('GET', KEYS[i])
    if is_error(stored) then return stored end
    local last = math.max(stored and tonumber(stored) or 0, token)
    local lasts_ms = math.max(fence_ms, (last - now_us) / 1000 + ttl_ms)
    redis.call('SET', KEYS[i], string.format('%.0f', last), 'PX', string.format('%.0f', lasts_ms))
  end
  wrote = true
  return missing and 2 or 1
end

local replies, lock_base, arg = { now_us }, 0, 2
while ARGV[arg] do
  local names = tonumber(ARGV[arg])
  replies[#replies + 1] = renew(
    lock_base, names, ARGV[arg + 1], tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3]),
    tonumber(ARGV[arg + 4]), ARGV[arg + 5] == '1'
  )
  lock_base, arg = lock_base + 2 * names, arg + 6
end
-- Removes nothing: a lock is no sorted set. Only a server that takes writes may say that a lease is lost.
if not wrote then
  local write = redis.pcall('ZREM', KEYS[1], '')
  if is_error(write) and string.find(write.err, 'READONLY', 1, true) then return write end
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
