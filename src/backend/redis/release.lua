-- KEYS for each lease n locks; then for all of them n lines
-- ARGV for each lease n, owner
-- ⇒ a list, for each: how many were the owner's and are deleted now | one error for all, nothing deleted

-- One MGET and one DEL for all: what a command costs by itself is far more than what a key adds to it. For a key of
-- another type, which is not the owner's, MGET answers nothing.
local names = #KEYS / 2
local stored = redis.pcall('MGET', unpack(KEYS, 1, names))
if stored.err then return stored end

local replies, mine, lines, k = {}, {}, {}, 0
for a = 1, #ARGV, 2 do
  local n, owner, count = tonumber(ARGV[a]), ARGV[a + 1], 0
  for i = k + 1, k + n do
    -- Once, even if two requests name the same lease.
    if stored[i] == owner and not mine[KEYS[i]] then
      mine[#mine + 1], mine[KEYS[i]] = KEYS[i], true
      lines[#lines + 1] = KEYS[names + i]
      count = count + 1
    end
  end
  replies[#replies + 1] = count
  k = k + n
end
if #mine == 0 then return replies end

local gone = redis.pcall('DEL', unpack(mine))
if type(gone) == 'table' then return gone end
if redis.call('EXISTS', unpack(lines)) > 0 then
  local now_ms = ms(clock_us())
  -- They are released, whatever becomes of the news: waiters look again by themselves.
  for _, line in ipairs(lines) do pcall(wake, line, now_ms) end
end
return replies
