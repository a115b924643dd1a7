/** The time limits of guards when a test has replaced the timers, and never turns them forward. */
import { OutcomeUnknownError, fencedFetch, redisGuard } from 'fencelock/guard'
import { expect, it, vi } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { rejection } from '../fixtures/locks'
import { runCode } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'

const lock = { resource: 'r', token: 5n }

/** A client whose server never answers. */
const silent = { evalsha: () => new Promise(() => {}), eval: () => new Promise(() => {}) }

/** Problem details that never end. */
const endless = () =>
  new Response(new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array([32])) }), {
    status: 409,
    headers: { 'content-type': 'application/problem+json' },
  })

it('are kept after the library was loaded', async () => {
  vi.useFakeTimers()
  onCleanup(() => vi.useRealTimers())
  const fetched = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => endless())
  onCleanup(() => fetched.mockRestore())
  const guard = redisGuard({ client: silent })
  const calls = [50, 150, 100].map((timeoutMs) => rejection(guard.set(lock, 'k', 'v', { timeoutMs })))
  for (const error of await Promise.all(calls)) expect(error).toBeInstanceOf(OutcomeUnknownError)
  expect((await fencedFetch(lock, 'http://localhost')).status).toBe(409)
})

/** How test tools replace the timers. Nothing ever fires. */
const fakes: Record<string, string> = {
  'as sinon, Jest and vitest do': `
    const never = () => ({ ref() {}, unref() {}, hasRef: () => true })
    const names = ['setTimeout', 'setInterval', 'setImmediate', 'clearTimeout', 'clearInterval', 'clearImmediate', 'queueMicrotask']
    for (const name of names) globalThis[name] = never
    process.nextTick = process.hrtime = never
    performance.now = Date.now = () => 1_000`,
  'as node:test does': `
    const { mock } = await import('node:test')
    mock.timers.enable()`,
}

it.each(Object.keys(fakes).filter((kind) => !(onBun && kind.includes('node:test'))))(
  'are kept if they were replaced before, %s',
  async (kind) => {
    const ending = await runCode(`
      const { fencedFetch, redisGuard } = await (async () => {
        // Keeps the process alive, as a test runner does.
        setInterval(() => {}, 1_000)
        ${fakes[kind]}
        return await import('fencelock/guard')
      })()
      const lock = { resource: 'r', token: 5n }
      const never = () => new Promise(() => {})
      const guard = redisGuard({ client: { evalsha: never, eval: never } })
      const began = process.uptime()
      const wait = (timeoutMs) =>
        guard.set(lock, 'k', 'v', { timeoutMs }).catch(({ code }) => {
          return [code + timeoutMs, process.uptime() - began >= (timeoutMs - 5) / 1000]
        })
      let hasEnded = false
      void wait(60_000).then(() => (hasEnded = true))
      const ended = await Promise.all([300, 100, 200].map(wait))
      const late = process.uptime() - began > 10
      globalThis.fetch = async () => (${endless.toString()})()
      const { status } = await fencedFetch(lock, 'http://localhost')
      say({ ended, hasEnded, late, status })
      process.exit()`)
    expect(ending).toMatchObject({ code: 0, signal: null })
    // Each at its own time, and not before.
    const ended = [300, 100, 200].map((timeoutMs) => [`OUTCOME_UNKNOWN${timeoutMs}`, true])
    expect(JSON.parse(ending.stdout)).toEqual({ ended, hasEnded: false, late: false, status: 409 })
  },
)

it('keep the process alive for as long as they last, and no longer', async () => {
  const ending = await runCode(`
    const { redisGuard } = await import('fencelock/guard')
    const lock = { resource: 'r', token: 5n }
    const answered = { evalsha: async () => ['done', 1], eval: async () => ['done', 1] }
    await redisGuard({ client: answered, timeoutMs: 60_000 }).advance(lock)
    const never = () => new Promise(() => {})
    await redisGuard({ client: { evalsha: never, eval: never } }).advance(lock, { timeoutMs: 100 }).catch(({ code }) => say(code))`)
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  expect(JSON.parse(ending.stdout)).toBe('OUTCOME_UNKNOWN')
})
