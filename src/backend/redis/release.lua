-- KEYS locks · ARGV owner ⇒ how many were the owner's and are deleted now

local deleted = 0
for i = 1, #KEYS do
  -- pcall: a key of another type is not the owner's, and must not keep the rest from being deleted.
  if redis.pcall('GET', KEYS[i]) == ARGV[1] then
    deleted = deleted + redis.call('DEL', KEYS[i])
  end
end
return deleted
