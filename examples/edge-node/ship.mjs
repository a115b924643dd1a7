// Ships what the service in `index.mjs` has written. Cron starts it every minute; see there.
//
// - A run that finds another run in progress exits.
// - A run that was killed leaves its file, and the next run ships the file again under the same name. So the
//   receiver may get it twice, and should recognize it by its name (`Idempotency-Key`).
// - A service that was killed while it wrote may leave a file that is empty or ends within a line. Only whole
//   lines are shipped.

import { LockManager } from 'fencelock'
import { readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

const folder = process.env.DATA_DIR ?? '/data'
const url = process.env.UPLOAD_URL ?? 'http://localhost:8080/readings'
const locks = new LockManager({ local: join(folder, 'locks.sqlite') })

// A single attempt: this run does not wait for another one.
const shipping = await locks.tryAcquire('shipping', { ttlMs: 30_000, renew: true })
if (shipping) {
  await setAside(`batch-${shipping.token}.ndjson`)
  // Those that a killed run left are among them.
  const batches = (await readdir(folder)).filter((name) => name.startsWith('batch-'))
  for (const name of batches.toSorted()) {
    const file = join(folder, name)
    const lines = wholeLines(await readFile(file, 'utf8'))
    if (lines !== '') {
      await upload(name, lines, shipping.signal)
      console.log(`shipped ${name}`)
    }
    await rm(file)
  }
  await shipping.release()
} else {
  console.log('another run is shipping')
}
await locks.close()

/** Takes the file away from the service, which then begins another one. @param {string} name */
async function setAside(name) {
  await locks.withLock('readings', async () => {
    try {
      await rename(join(folder, 'readings.ndjson'), join(folder, name))
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOENT') throw error
    }
  })
}

/** @param {string} text */
function wholeLines(text) {
  return text.slice(0, text.lastIndexOf('\n') + 1)
}

/** @param {string} name @param {string} body @param {AbortSignal} signal */
async function upload(name, body, signal) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-ndjson', 'Idempotency-Key': name },
    body,
    signal,
  })
  if (!response.ok) throw new Error(`${name}: ${response.status} ${await response.text()}`)
}
