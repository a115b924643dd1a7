-- The lock file, version 1. One row per resource; one b-tree, so that a grant dirties one page.
-- Every column after the token is NULL while the resource is free. A row outlives its lease, for its token must never
-- be granted again; it goes seven days after the token's clock, because from then on the clock is ahead of it.
CREATE TABLE leases (
  resource TEXT NOT NULL PRIMARY KEY, -- compared byte by byte
  token    INTEGER NOT NULL,          -- the last fencing token granted
  owner    BLOB,                      -- 16 bytes that prove whose lease it is
  boot_us  INTEGER,                   -- the lease's end in µs on the boot clock of the holder's boot and time namespace
  wall_us  INTEGER,                   -- the same end in µs since 1970, for those whose boot clock is another
  holder   BLOB                       -- the holder's boot and liveness file; see holder.rs
) STRICT, WITHOUT ROWID;
