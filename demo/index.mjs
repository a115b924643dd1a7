// `npm run demo`: shows, with real processes and real servers, what the locks do and what the fence is for.
// Works from a bare clone: it installs and builds what is missing first.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { setUp } from '../scripts/dev/setup.mjs'

await setUp()

// Only now: these need the addon.
const { Stage } = await import('./stage.mjs')
const { startRedis } = await import('./redis.mjs')
const { contend, fenceOff, takeOver, refuseGrant } = await import('./acts.mjs')

const dir = mkdtempSync(join(tmpdir(), 'fencelock-demo-'))
const stage = new Stage()
try {
  const local = join(dir, 'locks.sqlite')
  stage.title('Local locks: processes of one host, a SQLite file, no server')
  await contend(stage, { local })
  await takeOver(stage, { local })
  await fenceOff(stage, { local })

  const redis = await startRedis()
  if (redis) {
    stage.defer(() => redis.stop())
    stage.title('Strong locks: a Redis primary and two replicas, each on a port of its own')
    await contend(stage, { redis: redis.url })
    await takeOver(stage, { redis: redis.url })
    await fenceOff(stage, { redis: redis.url })
    await refuseGrant(stage, redis)
  } else {
    stage.title('Strong locks: skipped, no redis-server found')
    stage.say(
      'Install one (Debian: apt-get install redis-server; macOS: brew install redis) and run the demo again.',
    )
  }
} finally {
  await stage.clear()
  rmSync(dir, { recursive: true, force: true })
}
