// Adds jobs for the worker in `index.mjs`, one for each customer named.
//
//   REDIS_URL=redis://127.0.0.1:6379 node examples/queue-worker/enqueue.mjs alice bob alice

import { Queue } from 'bullmq'
import { Redis } from 'ioredis'

const client = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
const queue = new Queue('invoices', { connection: client })

const jobs = process.argv.slice(2).map((customer) => ({
  name: 'bill',
  data: { customer, amount: 10 },
  // One that lost its lock is tried again.
  opts: { attempts: 3, backoff: { type: 'fixed', delay: 200 } },
}))
for (const { id, data } of await queue.addBulk(jobs)) console.log(`job ${id} of ${data.customer}`)

await queue.close()
client.disconnect()
