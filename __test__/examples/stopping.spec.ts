/** Services of `examples/` end in order by a SIGTERM that comes as soon as they say that they are ready. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { startRedis } from '../fixtures/servers/redis'
import { tempDir } from '../fixtures/temp'
import { startExample } from './support'

it.each([
  'cron-job/coordinator.mjs',
  'cron-job/index.mjs',
  'edge-node/index.mjs',
  'fastify-plugin/index.mjs',
  'http-fence/index.mjs',
  'leader/index.mjs',
  'queue-worker/index.mjs',
])('%s', async (program) => {
  const folder = tempDir()
  const preload = join(folder, 'preload.cjs')
  writeFileSync(
    preload,
    `const { log } = console
     console.log = (text) => {
       log(text)
       if (/^(listening on|reading|scheduled|standing by|working)/.test(text)) process.kill(process.pid, 'SIGTERM')
     }`,
  )
  const redis = await startRedis()
  const { ended } = startExample(program, {
    nodeArgs: ['--require', preload],
    bunArgs: ['--preload', preload],
    env: { REDIS_URL: redis.url, DATA_DIR: folder, PORT: '0' },
  })
  const { code, signal, stdout, stderr } = await ended
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
  expect(stdout).not.toBe('')
})
