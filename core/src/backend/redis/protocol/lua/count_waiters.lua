-- KEYS queue · ARGV echo
-- ⇒ how many waiters are in the queue; then the echo

-- For a slot that is moving to another node, where a script with several keys would be refused.
return { count_waiters(KEYS[1]), tonumber(ARGV[1]) }
