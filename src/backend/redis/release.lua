-- For each lease: KEYS n locks · ARGV n, owner
-- ⇒ a list, for each: how many were the owner's and are deleted now | one error for all, nothing deleted

-- One MGET and one DEL for all: what a command costs by itself is far more than what a key adds to it. For a key of
-- another type, which is not the owner's, MGET answers nothing.
local stored = redis.pcall('MGET', unpack(KEYS))
if stored.err then return stored end

local replies, mine, k = {}, {}, 0
for a = 1, #ARGV, 2 do
  local n, owner, count = tonumber(ARGV[a]), ARGV[a + 1], 0
  for i = k + 1, k + n do
    -- Once, even if two requests name the same lease.
    if stored[i] == owner and not mine[KEYS[i]] then
      mine[#mine + 1], mine[KEYS[i]] = KEYS[i], true
      count = count + 1
    end
  end
  replies[#replies + 1] = count
  k = k + n
end

local gone = #mine == 0 or redis.pcall('DEL', unpack(mine))
if type(gone) == 'table' then return gone end
return replies
