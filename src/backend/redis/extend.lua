-- KEYS n locks, n fences · ARGV owner, ttl_ms ⇒ 1 extended | 0 not the owner's, nothing written

local count = #KEYS / 2
for i = 1, count do
  if redis.call('GET', KEYS[i]) ~= ARGV[1] then return 0 end
end

-- Never shorter than what is left. Always a write, even if it changes nothing, so that the WAIT after it has an offset
-- of this extension to wait for.
local function lengthen(key, ms)
  local left = redis.call('PTTL', key)
  redis.call('PEXPIRE', key, string.format('%.0f', math.max(left, ms)))
end
for i = 1, count do
  lengthen(KEYS[i], ARGV[2])
  lengthen(KEYS[count + i], 604800000 + ARGV[2])
end
return 1
