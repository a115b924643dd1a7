-- KEYS for each request n locks, n fences; then for all of them n queues
-- ARGV echo; then for each run of requests that are alike: their number, n, ttl_ms, min_token, fence_ms,
--      1 if they have waiters; then the owner of each request, and its waiter if it has one
-- ⇒ a list with one reply a request: token > 0 granted | -1 - left_ms - 2^40 * (place - 1) the name at this
--   place is held, or has others queued for it; left_ms is 2^40 - 1 if its end is not known | an error,
--   nothing granted; then the echo
-- A waiter is in the queues if its request was not granted, and in none of them if it was.

-- Making the functions that some requests need costs a call more than a usual request does. So `usual.lua`,
-- which makes none, comes first, and `rest.lua` goes on where it has stopped. A script without `usual.lua` would
-- do the same, more slowly.

local try, find, number, keys, argv = redis.pcall, string.find, tonumber, KEYS, ARGV
local time = try('TIME')
local now_us = time.err and 0 or time[1] * 1000000 + time[2]
local stamp
if not time.err and string.len(time[2]) == 6 then
  -- Faster than formatting a number.
  stamp = time[1] .. time[2]
else
  stamp = string.format('%.0f', now_us)
end
local total_names = #keys / 3
local has_waiters = redis.call('EXISTS', unpack(keys, 2 * total_names + 1)) > 0

local replies, done, lock_base, queue_base, arg = {}, 0, 0, 2 * total_names, 2
-- Of the run that has begun: how many requests are still to come, and what they have in common.
local left, names, ttl_ms, min_token, fence_ms, waits = 0, nil, nil, nil, nil, nil
-- What the fence of the next request was, if its lock is set already.
local odd_fence = nil
-- Whether the server has accepted a write.
local takes_writes = false
