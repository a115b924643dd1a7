-- KEYS n locks · ARGV owner ⇒ how many were the owner's, and are deleted now
local deleted = 0
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then deleted = deleted + redis.call('DEL', key) end
end
return deleted
