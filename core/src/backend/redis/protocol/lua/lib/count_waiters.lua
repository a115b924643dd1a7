-- How many waiters are in a wait queue (see wait_queue.lua) whose processes are alive. Only the first 1,000 entries
-- are looked at, so that one call is short however long the queue is.
local function count_waiters(queue)
  local entries = redis.pcall('ZRANGEBYSCORE', queue, '100000000000000', '+inf', 'LIMIT', 0, 1000)
  if not entries[1] then return 0 end
  local time = redis.call('TIME')
  local now_ms, alive, count = time[1] * 1000 + math.floor(time[2] / 1000), {}, 0
  for _, entry in ipairs(entries) do
    local process = string.sub(entry, 1, 32)
    if alive[process] == nil then alive[process] = (tonumber(redis.call('ZSCORE', queue, process)) or 0) > now_ms end
    if alive[process] then count = count + 1 end
  end
  return count
end
