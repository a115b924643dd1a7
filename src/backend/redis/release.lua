-- For each lease: KEYS n locks · ARGV n, owner
-- ⇒ a list, for each: how many were the owner's and are deleted now | an error, some of it perhaps deleted

local function release(k, n, owner)
  local deleted = 0
  for i = k + 1, k + n do
    local stored = redis.pcall('GET', KEYS[i])
    if stored == owner then
      local gone = redis.pcall('DEL', KEYS[i])
      if type(gone) == 'table' then return gone end
      deleted = deleted + gone
    elseif type(stored) == 'table' and string.sub(stored.err, 1, 9) ~= 'WRONGTYPE' then
      -- A key of another type is not the owner's, and must not keep the rest from being deleted.
      return stored
    end
  end
  return deleted
end

local replies, k = {}, 0
for a = 1, #ARGV, 2 do
  local n = tonumber(ARGV[a])
  replies[#replies + 1] = release(k, n, ARGV[a + 1])
  k = k + n
end
return replies
