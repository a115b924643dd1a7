/** The route handler of the example for Next.js, in development mode. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { onBun } from '../fixtures/processes/runtimes'
import { startRedis } from '../fixtures/servers/redis'
import { eventually, freePort, root } from '../fixtures/temp'
import { line, startExample } from './support'

/**
 * A project with the example. It is below `examples/`, whose packages it uses; fencelock is installed as a
 * copy, because Next.js does not keep a linked package out of its bundles.
 */
function project(): string {
  const folder = mkdtempSync(join(root, 'examples/.test-'))
  onCleanup(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))
  const example = join(root, 'examples/next-route')
  for (const name of ['app', 'next.config.mjs']) {
    cpSync(join(example, name), join(folder, name), { recursive: true })
  }
  const addons = readdirSync(root).filter((name) => name.endsWith('.node'))
  for (const name of ['package.json', 'index.js', 'lib', ...addons]) {
    cpSync(join(root, name), join(folder, 'node_modules/fencelock', name), { recursive: true })
  }
  return folder
}

function edit(file: string, from: string, to: string): void {
  const text = readFileSync(file, 'utf8')
  expect(text).toContain(from)
  writeFileSync(file, text.replace(from, to))
}

// Next.js runs on Node.js.
it.skipIf(onBun)('locks across reloads, with one manager', async () => {
  const redis = await startRedis()
  const folder = project()
  const port = await freePort()
  const next = startExample('node_modules/next/dist/bin/next', {
    args: ['dev', folder, '-p', String(port), '-H', '127.0.0.1'],
    env: { REDIS_URL: redis.url, WORK_MS: '2000', NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: undefined },
  })
  onCleanup(() => next.kill('SIGTERM')) // Unlike SIGKILL, it ends the process of the server, too.
  await line(next, /Ready in/)

  const pay = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/invoices/1/pay`, { method: 'POST' })
    return { status: answer.status, body: (await answer.json()) as { paid: unknown; token: string } }
  }
  /** Connections of the server, without the one that asks. */
  const connections = async () =>
    String(await redis.cmd('CLIENT', 'LIST'))
      .split('\n')
      .filter((client) => client.includes('cmd=') && !client.includes('cmd=client')).length

  const first = await pay()
  expect(first).toMatchObject({ status: 200, body: { paid: true } })
  const one = await connections()
  expect(one).toBeGreaterThan(0)

  // Both are run again: the handler, and the module that makes the manager.
  const [route, locks] = [join(folder, 'app/invoices/[id]/pay/route.js'), join(folder, 'app/locks.js')]
  edit(locks, 'export const', "console.log('run again')\nexport const")
  edit(route, 'paid: true', "paid: 'again'")
  await eventually('the new handler answers', async () => (await pay()).body.paid === 'again', 30_000)
  await line(next, /run again/)
  const both = await Promise.all([pay(), pay()])
  expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409])
  const paid = both.find(({ status }) => status === 200)!
  expect(BigInt(paid.body.token)).toBeGreaterThan(BigInt(first.body.token))
  expect(await connections()).toBe(one)

  // Without what keeps it, each change makes another one.
  edit(locks, '(kept.locks ??= new LockManager({', '(new LockManager({')
  edit(route, "paid: 'again'", "paid: 'another'")
  await eventually('the new handler answers', async () => (await pay()).body.paid === 'another', 30_000)
  expect(await connections()).toBeGreaterThan(one)
})
