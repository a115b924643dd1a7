/** Increments by eight processes while nodes are killed, stopped and slow, and holders are stopped. */
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

import { unique } from '../fixtures/locks'
import { startScript, type Script } from '../fixtures/processes/processes'
import { startNodes, startRedis, type RedisServer } from '../fixtures/servers/redis'
import { sleep } from '../fixtures/temp'
import { allVote, maxTtlMs } from './support'

/** By all processes together. */
const increments = Number(process.env.FENCELOCK_QUORUM_INCREMENTS ?? 240)
const processes = 8
const ttlMs = 1000
const limitMs = 60_000 + increments * 100

type Message =
  | { value: number; token: string }
  | { stopped: true }
  | { done: { plain: number; refused: number; failed: number } }

/** Strikes one node after the other until `ended`. At most two of five do not vote at the same time. */
async function storm(nodes: RedisServer[], ended: () => boolean): Promise<Record<string, number>> {
  const strikes: Record<string, (node: RedisServer) => Promise<unknown>> = {
    killed: (node) => node.restart(),
    stopped: async (node) => {
      node.pause()
      await sleep(400)
      node.resume()
    },
    slow: async (node) => {
      for (let call = 0; call < 20; call += 1) await node.cmd('DEBUG', 'SLEEP', 0.02)
    },
    'stopped again': async (node) => {
      node.pause()
      await sleep(700)
      node.resume()
    },
  }
  const counts: Record<string, number> = {}
  for (let round = 0; !ended(); round += 1) {
    const [how, strike] = Object.entries(strikes)[round % 4]!
    await strike(nodes[round % nodes.length]!)
    counts[how] = (counts[how] ?? 0) + 1
    // One that was killed votes again before the next one is.
    await sleep(500)
  }
  return counts
}

/** Listens to a process until it is done, and resumes it after its lease when it has stopped. */
async function listen(script: Script, told: (increment: { value: number; token: bigint }) => void) {
  let resuming: NodeJS.Timeout | undefined
  try {
    for (;;) {
      const message = await script.next<Message>(limitMs)
      clearInterval(resuming)
      if ('done' in message) return message.done
      if ('value' in message) told({ value: message.value, token: BigInt(message.token) })
      // More than once: it may be slow to stop after it said so.
      else resuming = setInterval(() => script.resume(), ttlMs + 400)
    }
  } finally {
    clearInterval(resuming)
  }
}

test(
  'through a guard none is lost, whatever happens to nodes and holders',
  async () => {
    const [nodes, store] = await Promise.all([startNodes(5), startRedis()])
    await allVote(nodes)
    const worker = fileURLToPath(new URL('../fixtures/processes/guarded-counter.mjs', import.meta.url))
    const quorum = { nodes: nodes.map(({ url }) => url), maxTtlMs, commandTimeoutMs: 500 }
    const each = {
      quorum,
      resource: unique('counter'),
      port: store.port,
      total: increments / processes,
      ttlMs,
    }
    const made: { value: number; token: bigint }[] = []
    let ended = false
    const struck = storm(nodes, () => ended)
    try {
      const endings = await Promise.all(
        Array.from({ length: processes }, async (_, place) => {
          // Half of the processes stop now and then while they hold the lock.
          const stops = place % 2 === 0 ? 0 : Math.ceil(each.total / 50)
          const args = [JSON.stringify({ ...each, stops })]
          const script = startScript(worker, { args, limitMs })
          const done = await listen(script, (increment) => made.push(increment))
          expect(await script.ended).toMatchObject({ code: 0 })
          return done
        }),
      )
      const sum = (what: 'plain' | 'refused' | 'failed') => endings.reduce((all, end) => all + end[what], 0)
      const [guarded, plain] = [
        Number(await store.cmd('GET', 'guarded')),
        Number(await store.cmd('GET', 'plain')),
      ]
      const lost = sum('plain') - plain
      console.log(
        `${made.length} increments, ${made.length - guarded} lost; without a guard ${lost} of ${sum('plain')} lost; ` +
          `${sum('refused')} late writes refused, ${sum('failed')} acquires failed`,
      )
      expect(made).toHaveLength(increments)
      expect(guarded).toBe(increments)
      // Each value was written once, and later ones with higher tokens.
      const byValue = made.toSorted((a, b) => a.value - b.value)
      expect(byValue.map(({ value }) => value)).toEqual(byValue.map((_, place) => place + 1))
      const falls = byValue.filter(({ token }, place) => place > 0 && token <= byValue[place - 1]!.token)
      expect(falls).toEqual([])
    } finally {
      ended = true
      console.log('strikes', await struck)
    }
  },
  limitMs,
)
