// A client of the service in `index.mjs`: takes the lock of a document, and sends the document's text line by
// line, one line per second.
//
//   export REDIS_URL=redis://127.0.0.1:6379
//   node examples/http-fence/client.mjs http://localhost:8080 intro 'Once upon' 'a time'
//
// Stop it with SIGSTOP (`kill -STOP`) after the first line, let another client write, and resume it with
// SIGCONT. Its lease has expired, but it does not know that yet, so it sends the rest. The service answers
// with 409.

import { LockManager, StaleTokenError } from 'fencelock'
import { fencedFetch } from 'fencelock/guard'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

const [service, id, ...lines] = process.argv.slice(2)
const url = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'
const locks = new LockManager({ redis: { url, replicas: Number(process.env.REDIS_REPLICAS ?? 0) } })

try {
  await locks.withLock(`document:${id}`, { ttlMs: 4_000 }, async (lock) => {
    const response = await fencedFetch(lock, `${service}/documents/${id}`, {
      method: 'PUT',
      headers: { 'Content-Type': 'text/plain' },
      body: Readable.toWeb(Readable.from(text(lines))),
      duplex: 'half',
      // A client of yours passes `signal: lock.signal`, too: most requests of a late holder then end before
      // the service has to refuse them. This one does not, so that you see the refusal.
    })
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
    console.log(`written with token ${lock.token}`)
  })
} catch (error) {
  if (!(error instanceof StaleTokenError)) throw error
  console.log(`refused with 409: token ${error.token} is lower than ${error.current}`)
  process.exitCode = 1
} finally {
  await locks.close()
}

/** In place of work that takes a while. @param {string[]} all */
async function* text(all) {
  for (const line of all) {
    yield `${line}\n`
    console.log(`sent: ${line}`)
    await sleep(1_000)
  }
}
