-- KEYS n locks, n queues · ARGV echo, process
-- ⇒ a list with one reply a resource: number > 0 of this process's waiter that may try now | 0 the process is
--   not in the queue | -1 held | -1 - ms another process's turn, which counts as dead after that time; or
--   dead waiters are still to be removed; then the echo

local names, process, replies = #KEYS / 2, ARGV[2], {}
local now_ms = to_ms(clock_us())

local function heartbeat(lock, queue)
  if not redis.call('ZSCORE', queue, process) then return 0 end
  -- In this order, so that a server that is out of memory allows both: see enqueue.
  redis.call('PEXPIRE', queue, QUEUE_TTL_MS)
  redis.call('ZADD', queue, string.format('%.0f', now_ms + ALIVE_MS), process)
  if redis.call('EXISTS', lock) == 1 then return -1 end
  local entry, more = first_alive(queue, now_ms)
  if more then return -2 end
  if not entry then return 0 end
  local first = process_of(entry)
  if first == process then return tonumber(string.match(entry, ':(%d+):')) end
  return -1 - alive_ms(queue, first, now_ms)
end

for i = 1, names do
  local ok, reply = pcall(heartbeat, KEYS[i], KEYS[names + i])
  replies[i] = ok and reply or 0
end
replies[names + 1] = tonumber(ARGV[1])
return replies
