/** `examples/leader`: work of one instance at a time, and who follows. */
import { redisGuard } from 'fencelock/guard'
import { beforeAll, describe, expect, it } from 'vitest'

import { clients } from '../fixtures/examples/redis-clients'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'
import { line, lines, startExample } from './support'

describe('the leader', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })

  it('is followed at once after SIGTERM, and when its lease ends after SIGKILL', async () => {
    const start = () => startExample('leader/index.mjs', { env: { REDIS_URL: server.url } })
    const leading = /^leading with token (\d+)$/
    const first = start()
    const tokens = [BigInt((await line(first, leading))[1]!)]
    const [second, third] = [start(), start()]
    await Promise.all([second, third].map((each) => line(each, /^standing by$/)))
    const polls = (pid: number) => async () => (await log()).some((entry) => entry.pid === pid)
    const log = async () =>
      ((await server.cmd('LRANGE', '{mailbox-poller}:log', 0, -1)) as string[]).map((entry) => {
        const [pid, token] = entry.split(' ')
        return { pid: Number(pid), token: BigInt(token!) }
      })
    await eventually('the first one polls', polls(first.pid))

    // A deploy: the lead is handed over long before the lease would end.
    const { code, stderr } = await first.kill('SIGTERM')
    const stopped = performance.now()
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(first.stdout).toContain('no longer leading')
    const next = await eventually('another one leads', () =>
      [second, third].find((each) => lines(each, leading).length > 0),
    )
    expect(performance.now() - stopped).toBeLessThan(2_500)
    tokens.push(BigInt(lines(next, leading)[0]![1]!))
    await eventually('it polls', polls(next.pid))

    // A crash: nothing is released, so the last one waits for the end of the lease.
    const last = next === second ? third : second
    const killed = performance.now()
    const remaining = Number(await server.cmd('PTTL', 'fencelock:{mailbox-poller}:lock'))
    await next.kill('SIGKILL')
    tokens.push(BigInt((await line(last, leading))[1]!))
    const gap = performance.now() - killed
    expect(remaining).toBeGreaterThan(0)
    // By two clocks.
    expect(gap).toBeGreaterThan(remaining - 100)
    expect(gap).toBeLessThan(8_000)
    await eventually('the last one polls', polls(last.pid))

    expect(await last.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' })
    // One after the other, each with a higher token than the one before.
    const order = (await log()).filter(({ pid }, index, all) => pid !== all[index - 1]?.pid)
    expect(order).toEqual([first, next, last].map((each, index) => ({ pid: each.pid, token: tokens[index] })))
    expect(tokens).toEqual(tokens.toSorted((a, b) => Number(a - b)))
  })

  it('is refused by the log when a newer leader has written', async () => {
    const late = startExample('leader/index.mjs', { env: { REDIS_URL: server.url } })
    const token = BigInt((await line(late, /^leading with token (\d+)$/))[1]!)
    // What the leader cannot see coming: another one has a higher token, and has used it.
    const guard = redisGuard({ client: await clients.ioredis!(server.port) })
    await guard.advance({ resource: 'mailbox-poller', token: token + 1n })
    const before = await server.cmd('LLEN', '{mailbox-poller}:log')
    const { code, stdout, stderr } = await late.ended
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('STALE_TOKEN') })
    expect(stdout).toContain('no longer leading')
    expect(await server.cmd('LLEN', '{mailbox-poller}:log')).toBe(before)
  })
})
