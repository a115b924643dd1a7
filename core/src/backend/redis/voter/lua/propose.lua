-- KEYS for each proposal n locks, n fences; then for all of them n queues
-- ARGV echo; then for each proposal: n, owner, ttl_ms, token, known, fence_ms, its waiter or '', its place in
--      the queues (µs) or ''
-- ⇒ a list of the time (µs); for each proposal three numbers: 1, 0, 0 granted | 2, left_ms + 2^40 *
--   (place - 1), last another owner has the name at this place, or others are queued for it; left_ms is
--   2^40 - 1 if its end is not known | 3, last, 0 the token is not above the last one, or too far behind the
--   clock | 4, most, 0 the token is further ahead than it may be | an error, 0, 0 nothing granted; then the echo
--   | one error for all, nothing granted
-- `known`: the highest token that another node told, or that the caller must be above.

-- How far a token may be behind the clock, and ahead of all that is known (µs). What this node has stored may
-- be gone, or from an old snapshot; by the clock, no token of before is above the ones to come.
local SLACK, AHEAD = 1000000, 1000000
local LAST_TOKEN = 2 ^ 53 - 1
local now_us = clock_us()
local total_names = #KEYS / 3
local has_waiters = redis.call('EXISTS', unpack(KEYS, 2 * total_names + 1)) > 0
local wrote = false

local function text(token)
  return string.format('%.0f', token)
end

local function is_error(reply)
  return type(reply) == 'table' and reply.err
end

local function no_token(place, value)
  return redis.error_reply('NOTOKEN ' .. place .. ' ' .. string.gsub(string.sub(value, 1, 40), '[^ -~]', '?'))
end

-- The owner of any of these locks other than this one, and whether all of them are this owner's; or an error.
local function holder_of(lock_base, names, owner)
  local other, all_mine = false, true
  for i = lock_base + 1, lock_base + names do
    local stored = redis.pcall('GET', KEYS[i])
    if is_error(stored) then return stored end
    if not stored then all_mine = false elseif stored ~= owner then other, all_mine = stored, false end
  end
  return other, all_mine
end

-- The last token of these names, or an error.
local function last_token(fence_base, names)
  local last = 0
  for place = 1, names do
    local stored = redis.pcall('GET', KEYS[fence_base + place])
    if is_error(stored) then return nil, stored end
    local token = stored and tonumber(stored)
    if stored and (not token or token >= LAST_TOKEN or string.find(stored, '%D')) then
      return nil, no_token(place, stored)
    end
    last = math.max(last, token or 0)
  end
  return last
end

local function propose(lock_base, queue_base, names, proposal)
  local owner, waiter, token = proposal.owner, proposal.waiter, proposal.token
  local other, all_mine = holder_of(lock_base, names, owner)
  if is_error(other) then return other end
  local last, refused = last_token(lock_base + names, names)
  if refused then return refused end
  local held = other and held_reply(lock_base, names)
  if is_error(held) then return held end
  if not held and not all_mine and (waiter or has_waiters) then
    local behind = must_wait(queue_base, names, waiter, now_us)
    held = behind and behind_reply(behind, lock_base, names)
  end
  -- Before the other refusals: a waiter must know the holder's token.
  if held then return 2, -1 - held, last end
  -- What it has accepted, not what its clock says: a clock that is ahead must not raise the tokens of others.
  if token <= last or token <= now_us - SLACK then return 3, last end
  local most = math.max(last, proposal.known, now_us) + AHEAD
  if token > most then return 4, most end

  local ttl_ms, fence_ms = tonumber(proposal.ttl_ms), tonumber(proposal.fence_ms)
  fence_ms = text(math.max(fence_ms, (token - now_us) / 1000 + ttl_ms))
  for i = lock_base + 1, lock_base + names do
    local left_ms = all_mine and redis.call('PTTL', KEYS[i]) or 0
    local set = redis.pcall('SET', KEYS[i], owner, 'PX', text(math.max(ttl_ms, left_ms)))
    if is_error(set) then return set end
  end
  for i = lock_base + names + 1, lock_base + 2 * names do
    redis.call('SET', KEYS[i], text(token), 'PX', fence_ms)
  end
  wrote = true
  if waiter then
    for i = queue_base + 1, queue_base + names do redis.pcall('ZREM', KEYS[i], waiter) end
  end
  return 1
end

-- A waiter that has a place is not granted anything that it is not queued for.
local function propose_in_turn(lock_base, queue_base, names, proposal)
  local ok, kind, a, b = pcall(propose, lock_base, queue_base, names, proposal)
  if not ok then return error_reply(kind) end
  if proposal.waiter and kind ~= 1 then
    has_waiters = true
    local queued, why =
      pcall(enqueue, lock_base, queue_base, names, proposal.waiter, now_us, proposal.place)
    if not queued and kind == 2 then return error_reply(why) end
  end
  return kind, a, b
end

local replies, lock_base, queue_base, arg = { now_us }, 0, 2 * total_names, 2
while ARGV[arg] do
  local names = tonumber(ARGV[arg])
  local waiter, place = ARGV[arg + 6], tonumber(ARGV[arg + 7])
  local proposal = {
    owner = ARGV[arg + 1], ttl_ms = ARGV[arg + 2], token = tonumber(ARGV[arg + 3]),
    known = tonumber(ARGV[arg + 4]), fence_ms = ARGV[arg + 5], waiter = waiter ~= '' and waiter, place = place,
  }
  local kind, a, b = propose_in_turn(lock_base, queue_base, names, proposal)
  replies[#replies + 1], replies[#replies + 2], replies[#replies + 3] = kind, a or 0, b or 0
  lock_base, queue_base, arg = lock_base + 2 * names, queue_base + names, arg + 8
end
-- Removes nothing. Only a server that takes writes may answer: a primary that was demoted has old data.
if not wrote then
  local write = redis.pcall('ZREM', KEYS[2 * total_names + 1], '')
  if is_error(write) and string.find(write.err, 'READONLY', 1, true) then return write end
end
replies[#replies + 1] = tonumber(ARGV[1])
return replies
