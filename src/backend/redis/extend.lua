-- KEYS n locks, n fences · ARGV owner, ttl_ms, fence_ms ⇒ 1 extended | 0 not the owner's, nothing written

local count = #KEYS / 2
for i = 1, count do
  if redis.call('GET', KEYS[i]) ~= ARGV[1] then return 0 end
end

-- Never shorter than what is left. Always a write, even if it changes nothing, so that the WAIT after it has an offset
-- of this extension to wait for.
for i = 1, #KEYS do
  local ms = i <= count and ARGV[2] or ARGV[3]
  redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.max(ms, redis.call('PTTL', KEYS[i]))))
end
return 1
