-- KEYS n locks, n fences · ARGV owner, ttl_ms ⇒ 1 extended | 0 lost, nothing written
local n = #KEYS / 2
for i = 1, n do
  if redis.call('GET', KEYS[i]) ~= ARGV[1] then return 0 end
end
for i = 1, n do
  -- Written also when nothing changes: the WAIT that follows proves what this connection wrote.
  local ttl = math.max(redis.call('PTTL', KEYS[i]), ARGV[2])
  redis.call('PEXPIRE', KEYS[i], string.format('%.0f', ttl))
  local fence_ttl = math.max(redis.call('PTTL', KEYS[n + i]), 604800000 + ttl)
  redis.call('PEXPIRE', KEYS[n + i], string.format('%.0f', fence_ttl))
end
return 1
