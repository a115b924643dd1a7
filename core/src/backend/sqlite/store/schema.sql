-- The lock file, version 1. One row per resource; one b-tree, so that a grant dirties one page.
-- Owner, ends and holder are NULL while the resource is free. A row outlives its lease, for its token must never
-- be granted again; it goes seven days after the token's clock, because from then on the clock is ahead of it.
CREATE TABLE leases (
  resource TEXT NOT NULL PRIMARY KEY, -- compared byte by byte
  token    INTEGER NOT NULL,          -- the last fencing token granted
  owner    BLOB,                      -- 16 bytes that prove whose lease it is
  boot_us  INTEGER,                   -- the lease's end in µs on the boot clock of the holder's boot and time namespace
  wall_us  INTEGER,                   -- the same end in µs since 1970, for those whose boot clock is another
  holder   BLOB,                      -- the holder's boot and liveness file, and the end of its minimum; see holder.rs
  queued   INTEGER                    -- 1 while the queue has entries for it, else NULL: so that whom it does not concern
                                      -- need not look there
) STRICT, WITHOUT ROWID;

-- The fair waiters, in the order in which they came.
CREATE TABLE queue (
  resource TEXT NOT NULL,
  place    INTEGER NOT NULL,          -- rises
  process  INTEGER NOT NULL,          -- who waits: a process,
  waiter   INTEGER NOT NULL,          -- and one of its waiters
  PRIMARY KEY (resource, place),
  UNIQUE (process, waiter, resource)  -- thousands may leave at once
) STRICT, WITHOUT ROWID;

-- The processes that have entries in the queue, and until when each of them is believed to live if it is not heard of.
CREATE TABLE processes (
  process INTEGER NOT NULL PRIMARY KEY, -- random
  boot_us INTEGER NOT NULL,             -- as in leases
  wall_us INTEGER NOT NULL,
  holder  BLOB
) STRICT;

-- The managers that have had leases lately: what people call them. For people only. Files that an older version created
-- get this table later; see holder_names.rs.
CREATE TABLE holders (
  id       BLOB NOT NULL PRIMARY KEY,   -- the first 6 bytes of each owner of this manager
  name     TEXT NOT NULL,
  host     TEXT NOT NULL,
  pid      INTEGER NOT NULL,
  since_ms INTEGER NOT NULL,            -- when the manager was made, in ms since 1970
  until_ms INTEGER NOT NULL             -- the row may go then, in ms since 1970
) STRICT, WITHOUT ROWID;
