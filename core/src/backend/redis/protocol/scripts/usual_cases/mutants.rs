//! Usual parts that are wrong, each in one place.

/// What would be wrong, and the text that would be in the place of another one.
pub const MUTANTS: &[(&str, &str, &str)] = &[
    ("the queue is passed", "not has_waiters and ", ""),
    ("a clock beyond all tokens is one", "and now_us < 2 ^ 53", ""),
    ("a token is not above the one that the caller must be above", "waits or min_token >= now_us", "waits"),
    ("a waiter stays outside of the queue", "waits or min_token >= now_us", "min_token >= now_us"),
    ("a lock that is held is taken", "argv[arg], 'PX', ttl_ms, 'NX')", "argv[arg], 'PX', ttl_ms)"),
    ("any text is a token", "not find(stored, '^%d+$') or", ""),
    ("the clock is given again", "stored - now_us >= 0", "stored - now_us > 0"),
    ("a token is below that of before", "stored - now_us >= 0", "false"),
    ("what the fence was is forgotten", "odd_fence = stored", "odd_fence = nil"),
    ("a lock without an end has one", "left_ms < 0 or", ""),
    ("an end is farther than can be told", "or left_ms >= 2 ^ 40", ""),
    ("a holder has longer", "reply = -1 - left_ms", "reply = -200000 - left_ms"),
    ("what the fence was is not looked at", "stamp, 'PX', fence_ms, 'GET'", "stamp, 'PX', fence_ms"),
    (
        "some of several locks are taken",
        "usual = try('EXISTS', unpack(keys, lock_base + 1, last_lock)) == 0",
        "usual = true",
    ),
    ("several fences stay as they are", "try('SET', keys[fence], stamp, 'PX', fence_ms)", "{}"),
    ("a refused write counts as a grant", "if set.err then break end", ""),
    ("what was refused leaves locks", "try('DEL', unpack(keys, lock_base + 1, i))", ""),
    ("some of several locks count as all", "      reply = set\n", ""),
    ("a short part of a second is not filled up", "string.len(time[2]) == 6", "true"),
    (
        "several grants are refused, and nothing else is said",
        "if set.err and i == lock_base + 1 then break end",
        "",
    ),
    (
        "the next request gets the locks of this one",
        "lock_base + 2 * names, queue_base + names",
        "lock_base + names, queue_base + names",
    ),
    ("a replica knows who holds a lock", "takes_writes = done > 0", "takes_writes = true"),
    ("another owner's lock is released", "if stored[i] ~= owner then usual = false end", ""),
    ("no waiter is woken", "redis.pcall('EXISTS', unpack(KEYS, total_names + 1)) == 0", "true"),
    ("a lease is released twice", "if seen[KEYS[key]] then replies[lease] = replies[lease] - 1 end", ""),
    (
        "a refused release counts",
        "if type(deleted) == 'table' then return deleted end",
        "if type(deleted) == 'table' then deleted = total_names end",
    ),
    ("of several locks one counts", "replies[count] = names", "replies[count] = 1"),
];
