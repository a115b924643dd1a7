-- Grants requests without waiters for names without queues, and refuses those for a single name that is held.
-- It stops before the first request that needs anything else. Nothing has been written for that request, with
-- one exception: the lock and the fence of a single name, if the fence was unusual (`odd_fence`).

local usual = not has_waiters and not time.err and now_us < 2 ^ 53
while usual do
  if left == 0 then
    if not argv[arg] then
      replies[done + 1] = number(argv[1])
      return replies
    end
    left, names, ttl_ms = number(argv[arg]), number(argv[arg + 1]), argv[arg + 2]
    min_token, fence_ms, waits = number(argv[arg + 3]), argv[arg + 4], argv[arg + 5] == '1'
    arg = arg + 6
    if waits or min_token >= now_us then break end
  end

  local reply = now_us
  if names == 1 then
    local set = try('SET', keys[lock_base + 1], argv[arg], 'PX', ttl_ms, 'NX')
    if set then
      if set.err then break end
      local stored = try('SET', keys[lock_base + 2], stamp, 'PX', fence_ms, 'GET')
      if stored and (type(stored) == 'table' or not find(stored, '^%d+$') or stored - now_us >= 0) then
        odd_fence = stored
        break
      end
    else
      local left_ms = try('PTTL', keys[lock_base + 1])
      -- A lock that does not end by itself is not ours.
      if type(left_ms) ~= 'number' or left_ms < 0 or left_ms >= 2 ^ 40 then break end
      reply = -1 - left_ms
    end
  else
    local i, last_lock, last_fence, set = lock_base, lock_base + names, lock_base + 2 * names, nil
    usual = try('EXISTS', unpack(keys, lock_base + 1, last_lock)) == 0
    for fence = last_lock + 1, usual and last_fence or 0 do
      local stored = try('GET', keys[fence])
      if stored and (type(stored) == 'table' or not find(stored, '^%d+$') or stored - now_us >= 0) then
        usual = false
      end
    end
    if not usual then break end
    repeat
      i = i + 1
      set = try('SET', keys[i], argv[arg], 'PX', ttl_ms)
    until i == last_lock or set.err
    if set.err and i == lock_base + 1 then break end
    for fence = last_lock + 1, set.err and 0 or last_fence do
      set = try('SET', keys[fence], stamp, 'PX', fence_ms)
      if set.err then break end
    end
    if set.err then
      try('DEL', unpack(keys, lock_base + 1, i))
      reply = set
    end
  end
  done = done + 1
  replies[done] = reply
  arg, left, lock_base, queue_base = arg + 1, left - 1, lock_base + 2 * names, queue_base + names
end
takes_writes = done > 0
