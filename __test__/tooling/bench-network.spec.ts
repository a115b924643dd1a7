/** What `npm run bench -- --only network` measures with, and how it judges. */
import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'

import { judgeNetwork } from '../../bench/report/network.mjs'
import { compileDelayProxy, startDelayProxy } from '../../bench/scenarios/network/delay-proxy.mjs'
import { observeScripts } from '../../bench/subjects/own-scripts.mjs'
import { RespClient } from '../../scripts/servers/resp.mjs'
import { startPrimary, startRedis, type RedisServer } from '../fixtures/servers/redis'
import { eventually, tempDir } from '../fixtures/temp'

describe.skipIf(process.platform !== 'linux')('the delaying proxy', () => {
  let program: string
  let server: RedisServer
  beforeAll(async () => {
    program = await compileDelayProxy(tempDir())
    server = await startRedis()
  })

  async function start() {
    const proxy = await startDelayProxy(program, server.port)
    onTestFinished(() => proxy.stop())
    const client = await RespClient.connect({ host: '127.0.0.1', port: proxy.port })
    onTestFinished(() => client.close())
    return { proxy, client }
  }

  it('delays both directions, never by less, and can be moved', async () => {
    const { proxy, client } = await start()
    let sent = 0
    for (const delay of [0.3, 5, 0.3]) {
      await proxy.setDelay(delay)
      // The best of them is late only by what waking three processes takes, which may need more of them while
      // the machine is busy.
      const [limit, end] = [2 * delay + 1, performance.now() + 5_000]
      let best = Infinity
      for (let i = 0; i < 20 || (best >= limit && performance.now() < end); i++) {
        const begin = performance.now()
        await client.cmd('PING')
        best = Math.min(best, performance.now() - begin)
        sent++
      }
      expect(best).toBeGreaterThanOrEqual(2 * delay)
      expect(best).toBeLessThan(limit)
    }
    const { pieces, p50, max } = await proxy.late()
    expect(pieces).toBe(2 * sent)
    expect(p50).toBeLessThanOrEqual(max)
    expect(await proxy.late()).toMatchObject({ pieces: 0, max: 0 })
  })

  it('keeps the order of much data, and passes an end on', async () => {
    const { proxy, client } = await start()
    await proxy.setDelay(1)
    const texts = Array.from({ length: 20 }, (_, index) => String(index).repeat(50_000))
    expect(await Promise.all(texts.map((text) => client.cmd('ECHO', text)))).toEqual(texts)
    const count = async () => Number((await server.info('clients')).connected_clients)
    // One of them is that which asks; those of the test before may still be there.
    await eventually('there are two clients', async () => (await count()) === 2)
    client.close()
    await eventually('the server has noticed', async () => (await count()) === 1)
  })
})

it('the scripts of a manager can be called by another client', async () => {
  const { primary } = await startPrimary()
  const { acquire, release } = await observeScripts(primary.url)
  const owner = randomUUID()
  const first = async (call: string[]) => ((await primary.cmd('EVALSHA', ...call)) as number[])[0]
  expect(await first(acquire('a', owner))).toBeGreaterThan(0)
  expect(await primary.cmd('GET', 'fencelock:{a}:lock')).toBe(owner)
  expect(await first(acquire('a', 'other'))).toBeLessThan(0)
  expect(await first(release('a', 'other'))).toBe(0)
  expect(await first(release('a', owner))).toBe(1)
  expect(await primary.cmd('EXISTS', 'fencelock:{a}:lock')).toBe(0)
})

it('a threshold is judged by the median of the ratios of the rounds', () => {
  const judged = (p50: number[]) => {
    const row = { id: 'ioredis-one-ack', label: 'plain', ratios: { p50, processor: [1], perSecond: [1] } }
    return judgeNetwork({
      'network-1': { distances: [{ accuracy: { roundTrip: 0 }, rows: [row] }] },
    } as never)
  }
  const value = '0.90× (half of the rounds: 0.70× to 4.00×)'
  expect(judged([0.9, 5, 0.5, 0.7, 4])[0]).toMatchObject({ value, reached: true })
  expect(judged([0.9, 5, 0.93])[0]).toMatchObject({ threshold: '≤ 0.92×', reached: false })
  expect(judged([])[0]).toMatchObject({ reached: false })
})
