-- KEYS for each lease n locks, n fences
-- ARGV for each run of leases that are alike: how many, n, ttl_ms, fence_ms; then for each owner
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

local replies, k, a = {}, 0, 1
while ARGV[a] do
  local leases, n, ttl, keep = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), ARGV[a + 2], ARGV[a + 3]
  for o = a + 4, a + 3 + leases do
    replies[#replies + 1] = extend(k, n, ARGV[o], ttl, keep)
    k = k + 2 * n
  end
  a = a + 4 + leases
end
return replies
