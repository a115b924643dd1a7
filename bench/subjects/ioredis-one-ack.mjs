/**
 * A lock written by hand with ioredis that one replica acknowledges: SET NX PX, WAIT and compare-and-delete
 * by EVALSHA.
 *
 * `pipelined`: SET and WAIT are sent in one go. Otherwise one after the other, as code with `await` does.
 */
import { randomUUID } from 'node:crypto'

import { connectMany, expect, load, pick, RELEASE_SCRIPT } from './common.mjs'
import { ACK_TIMEOUT_MS, TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place & { pipelined?: boolean }} options @returns {Promise<Subject>} */
export async function open({ url, atOnce, pipelined = false }) {
  const { Redis } = await load('ioredis')
  const scripts = { compareAndDelete: { lua: RELEASE_SCRIPT, numberOfKeys: 1 } }
  const connections = connectMany(atOnce, () => new Redis(url, { scripts }))

  const acquire = pipelined ? setAndWait : setThenWait

  return {
    async pair(resource, worker) {
      const redis = pick(connections, worker)
      const owner = randomUUID()
      const acks = await acquire(redis, resource, owner)
      const released = await redis.compareAndDelete(resource, owner)
      expect(acks >= 1, 'too few acknowledgements, rolled back')
      expect(released === 1, 'not released')
    },
    close() {
      for (const redis of connections) redis.disconnect()
    },
  }
}

/** @param {any} redis @param {string} resource @param {string} owner */
async function setThenWait(redis, resource, owner) {
  const set = await redis.set(resource, owner, 'PX', TTL_MS, 'NX')
  expect(set === 'OK', 'not granted')
  return redis.wait(1, ACK_TIMEOUT_MS)
}

/** @param {any} redis @param {string} resource @param {string} owner */
async function setAndWait(redis, resource, owner) {
  const pipeline = redis.pipeline().set(resource, owner, 'PX', TTL_MS, 'NX').wait(1, ACK_TIMEOUT_MS)
  const [[, set], [, acks]] = await pipeline.exec()
  expect(set === 'OK', 'not granted')
  return acks
}
