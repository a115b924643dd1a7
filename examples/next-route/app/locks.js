import { LockManager } from 'fencelock'

const kept = /** @type {{ locks?: LockManager }} */ (globalThis)

// In development, Next.js runs this again when a file changes. Each time another manager would be one more
// with connections of its own, and the locks of the one before would be out of reach.
export const locks = (kept.locks ??= new LockManager({
  redis: {
    url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379',
    replicas: Number(process.env.REDIS_REPLICAS ?? 0),
  },
}))
