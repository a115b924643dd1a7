-- KEYS for each lease n locks; then for all of them n lines
-- ARGV for each run of leases with as many locks: how many, n; then for each owner
-- ⇒ a list, for each: how many were the owner's and are deleted now | one error for all, nothing deleted

-- One MGET and one DEL for all: what a command costs by itself is far more than what a key adds to it. For a key of
-- another type, which is not the owner's, MGET answers nothing.
local names = #KEYS / 2
local stored = redis.pcall('MGET', unpack(KEYS, 1, names))
if stored.err then return stored end

local replies, mine, lines, freed, k, a = {}, {}, {}, 0, 0, 1
while ARGV[a] do
  local leases, n = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  for o = a + 2, a + 1 + leases do
    local owner, before = ARGV[o], freed
    for i = k + 1, k + n do
      local key = KEYS[i]
      -- Once, even if two requests name the same lease.
      if stored[i] == owner and not mine[key] then
        freed = freed + 1
        mine[freed], mine[key], lines[freed] = key, true, KEYS[names + i]
      end
    end
    replies[#replies + 1] = freed - before
    k = k + n
  end
  a = a + 2 + leases
end
if freed == 0 then return replies end

local gone = redis.pcall('DEL', unpack(mine))
if type(gone) == 'table' then return gone end
if redis.call('EXISTS', unpack(lines)) > 0 then
  local now_ms = ms(clock_us())
  -- They are released, whatever becomes of the news: waiters look again by themselves.
  for _, line in ipairs(lines) do pcall(wake, line, now_ms) end
end
return replies
