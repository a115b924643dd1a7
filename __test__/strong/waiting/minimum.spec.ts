/** Strong locks with a minimum, on connections that are slow. */
import { LockManager } from 'fencelock'
import { expect, test } from 'vitest'

import { closing, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startPrimary } from '../../fixtures/servers/redis'
import { sleep } from '../../fixtures/temp'
import { lockKey } from '../support'

test('an extension that arrives after the release does not revive the lease', async () => {
  const { primary } = await startPrimary()
  const proxy = await startProxy(primary.port)
  const locks = closing(new LockManager({ redis: { url: proxy.url }, defaults: { ackTimeoutMs: 2_000 } }))
  const lock = await locks.acquireStrong(unique(), { ttlMs: 60_000, minHoldMs: 20_000 })
  // The connection for extensions is made.
  await lock.extend()
  proxy.delay(500, 'toServer')
  let isExtended = false
  const extending = lock
    .extend(600_000)
    .catch((error: Error) => error)
    .finally(() => (isExtended = true))
  await sleep(50)
  proxy.delay(0, 'toServer')
  expect(await lock.release()).toBe(true)
  expect(isExtended).toBe(true)
  await extending
  await sleep(700)
  expect(await primary.cmd('PTTL', lockKey(lock.resource))).toBeLessThanOrEqual(20_000)
})
