import { Cron } from '@nestjs/schedule'
import { ClosedError } from 'fencelock'

import { runWithLock } from './current-lock.js'
import { wrap } from './with-lock.js'

/**
 * Like `@Cron(expression)`, but each tick runs on one instance. `minHoldMs` is for how long an instance whose
 * clock is behind, or which is late, still finds the lock held: about half the time between two ticks.
 */
export function CronOnce(expression: string, name: string, { minHoldMs }: { minHoldMs: number }) {
  const once = wrap<[]>(async (locks, _args, run) => {
    const options = { ttlMs: minHoldMs, minHoldMs, renew: true }
    const lock = await locks.tryAcquire(name, options).catch((error: unknown) => {
      if (error instanceof ClosedError) return null // The application ends: another instance runs this tick.
      throw error
    })
    if (lock === null) return // Another instance is running this tick, or has already.
    try {
      await runWithLock(lock, run)
    } finally {
      await lock[Symbol.asyncDispose]() // releases, and never rejects: the method has run
    }
  })
  return (
    target: object,
    key: string | symbol,
    descriptor: TypedPropertyDescriptor<() => Promise<void>>,
  ): void => {
    once(target, key, descriptor)
    Cron(expression, { name })(target, key, descriptor)
  }
}
