// An edge node with a volume and no server: this service writes readings to a file, and `ship.mjs`, started
// by cron, ships them. Local locks in a SQLite file on the volume keep the two apart.
//
//   DATA_DIR=/data node examples/edge-node/index.mjs
//   * * * * *  DATA_DIR=/data UPLOAD_URL=https://readings.example node examples/edge-node/ship.mjs
//
// - One process at a time is in a lock's section, whichever program or container it belongs to.
// - The lock of a process that was killed is free at once: the kernel reports that its holder is dead.
// - A process that was stopped in its section (SIGSTOP, a frozen container) may resume after its lease has
//   expired. Plain files have no fence against that, so the sections are as short as possible.
//
// In containers: mount the folder, not the file, as the same volume of one host (`docker run -v edge:/data`),
// and run them as users that may write to it. A network file system is refused.

import { LockManager } from 'fencelock'
import { appendFile, readFile, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

// Absolute: every process has to mean the same file, wherever it is started.
const folder = process.env.DATA_DIR ?? '/data'
const file = join(folder, 'readings.ndjson')
const locks = new LockManager({ local: join(folder, 'locks.sqlite') })

// A folder that is missing or read-only is an error now. The warnings tell of a file system that is not a
// volume.
await locks.connect()
for (const warning of (await locks.describe()).warnings) console.warn(warning)

// The manager is closed after the last reading, which needs its lock.
const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())

// A service that was killed while it wrote may have left a part of a line, which the next one would continue.
await locks.withLock('readings', dropPartOfLine)

console.log('reading')
for (let id = 1; !stop.signal.aborted; id++) {
  const reading = { id, at: new Date().toISOString(), celsius: 20 + Math.random() }
  await locks.withLock('readings', () => appendFile(file, `${JSON.stringify(reading)}\n`))
  await sleep(20, undefined, { signal: stop.signal }).catch(() => undefined)
}
await locks.close()
console.log('stopped')

async function dropPartOfLine() {
  try {
    const bytes = await readFile(file)
    await truncate(file, bytes.lastIndexOf('\n') + 1)
  } catch (error) {
    // There is no file after it was shipped.
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error
  }
}
