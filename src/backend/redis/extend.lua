-- For each lease: KEYS n locks, n fences · ARGV n, owner, ttl_ms, fence_ms
-- ⇒ a list, for each: 1 extended | 0 not the owner's, nothing written | an error, some of it perhaps extended

local function extend(k, n, owner, ttl, keep)
  for i = k + 1, k + n do
    local stored = redis.pcall('GET', KEYS[i])
    if type(stored) == 'table' then return stored end
    if stored ~= owner then return 0 end
  end
  -- Never shorter than what is left. Always a write, even if it changes nothing, so that the WAIT after it has an
  -- offset of this extension to wait for.
  for i = k + 1, k + 2 * n do
    local ms = i <= k + n and ttl or keep
    local set = redis.pcall('PEXPIRE', KEYS[i], string.format('%.0f', math.max(ms, redis.call('PTTL', KEYS[i]))))
    if type(set) == 'table' then return set end
  end
  return 1
end

local replies, k = {}, 0
for a = 1, #ARGV, 4 do
  local n = tonumber(ARGV[a])
  replies[#replies + 1] = extend(k, n, ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
  k = k + 2 * n
end
return replies
