-- KEYS for each lease n locks, n fences
-- ARGV echo; then for each run of leases that are alike: their number, n, ttl_ms, min_token, fence_ms; then
--      for each lease its new owner, and its old one
-- ⇒ a list with one reply a lease: token > 0 adopted | 0 no longer the old owner's, nothing written
--   | an error, nothing written; then the echo

local try, find, number = redis.pcall, string.find, tonumber
local time = try('TIME')
local now_us = time.err and 0 or time[1] * 1000000 + time[2]
-- Every token is below 2^53, so that doubles hold it exactly: from this one on there is no next token.
local LAST_TOKEN = 2 ^ 53 - 1

local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

-- There is no token above the clock (place 0), or above what the fence at this place holds.
local function no_token(place, value)
  return redis.error_reply('NOTOKEN ' .. place .. ' ' .. string.gsub(string.sub(value, 1, 40), '[^ -~]', '?'))
end

local function adopt(lock_base, names, owner, from, ttl_ms, min_token, fence_ms)
  local fence_base = lock_base + names
  for i = lock_base + 1, fence_base do
    local stored = try('GET', KEYS[i])
    if is_error(stored) then return stored end
    if stored ~= from then return 0 end
  end
  if time.err then return time end
  if now_us > LAST_TOKEN then return no_token(0, string.format('%.0f', now_us)) end
  local last = min_token
  for place = 1, names do
    local stored = try('GET', KEYS[fence_base + place])
    if is_error(stored) then return stored end
    local token = stored and number(stored)
    if stored and (not token or token >= LAST_TOKEN or find(stored, '%D')) then return no_token(place, stored) end
    if token and token > last then last = token end
  end

  for i = lock_base + 1, fence_base do
    -- Only the first can be refused: a server that is out of memory lets a script go on that has written.
    local set = try('SET', KEYS[i], owner, 'PX', ttl_ms)
    if is_error(set) then return set end
  end
  local token = last < now_us and now_us or last + 1
  -- A token ahead of the clock is kept at least until the clock has passed it.
  local kept_ms = string.format('%.0f', math.max(fence_ms, (token - now_us) / 1000 + ttl_ms))
  for i = fence_base + 1, fence_base + names do
    redis.call('SET', KEYS[i], string.format('%.0f', token), 'PX', kept_ms)
  end
  return token
end

local replies, lock_base, arg, wrote = {}, 0, 2, false
while ARGV[arg] do
  local leases, names = tonumber(ARGV[arg]), tonumber(ARGV[arg + 1])
  local ttl_ms, min_token, fence_ms = ARGV[arg + 2], tonumber(ARGV[arg + 3]), ARGV[arg + 4]
  for owner = arg + 5, arg + 3 + 2 * leases, 2 do
    local reply = adopt(lock_base, names, ARGV[owner], ARGV[owner + 1], ttl_ms, min_token, fence_ms)
    wrote = wrote or type(reply) == 'number' and reply > 0
    replies[#replies + 1] = reply
    lock_base = lock_base + 2 * names
  end
  arg = arg + 5 + 2 * leases
end
-- Removes nothing: a lock is no sorted set. Only a server that takes writes may say that a lease is lost: a
-- primary that was demoted has old data.
if not wrote then
  local write = try('ZREM', KEYS[1], '')
  if is_error(write) and find(write.err, 'READONLY', 1, true) then return write end
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
