// `npm run demo`: shows with real processes and real servers what the locks do and why they have fencing
// tokens. It runs from a fresh clone: it first installs and builds what is missing.

import { rmSync } from 'node:fs'
import { join } from 'node:path'

import { setUp } from '../../scripts/dev/setup.mjs'
import { makeFolder } from '../../scripts/servers/processes.mjs'
import { redisProgram, startPrimary, versionOf } from '../../scripts/servers/redis.mjs'
import { result, title } from './output.mjs'

await setUp()

// Imported only now, because it needs the addon.
const { contention, crash, missingAcknowledgement, pause } = await import('./scenarios.mjs')
const { failover } = await import('./failover.mjs')

const folder = makeFolder('fencelock-demo-')
const local = join(folder, 'locks.sqlite')
title('Local locks: processes of one host, a SQLite file, no server')
await contention({ local })
await crash({ local })
await pause({ local })
rmSync(folder, { recursive: true, force: true })

if (versionOf(redisProgram)) {
  const { url, replicas, stop } = await startPrimary({ replicas: 2 })
  title('Strong locks: a Redis primary and two replicas, each on a port of its own')
  await contention({ redis: url })
  await crash({ redis: url })
  await pause({ redis: url })
  await missingAcknowledgement({ redis: url }, replicas[0])
  await stop()
  title('Strong locks: a primary, two replicas, and three Sentinels that replace a dead primary')
  await failover()
} else {
  title('Strong locks: skipped, because redis-server was not found')
  result(
    'Install it (Debian: apt-get install redis-server; macOS: brew install redis) and run the demo again.',
  )
}
