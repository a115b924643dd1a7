/**
 * The scripts that fencelock sends, and what it gives them: as a server sees it, so that nothing of the core
 * is repeated here.
 */
import { LockManager } from '../../index.js'
import { RespClient } from '../../scripts/servers/resp.mjs'
import { eventually } from '../../scripts/servers/wait.mjs'
import { ACK_TIMEOUT_MS, REPLICAS, TTL_MS } from './conditions.mjs'

/**
 * What follows EVALSHA for a resource and an owner.
 *
 * @typedef {(resource: string, owner: string) => string[]} Call
 */

/** No part of any other argument. */
const NAME = 'observed-by-monitor'
/** The first calls send the scripts themselves. */
const PAIRS_BEFORE = 3

/**
 * Has a manager acquire and release a lock. The server keeps its scripts.
 *
 * @param {string} url
 * @returns {Promise<{ acquire: Call, release: Call }>}
 */
export async function observeScripts(url) {
  const monitor = await RespClient.connect({ host: '127.0.0.1', port: Number(new URL(url).port) })
  const locks = new LockManager({
    redis: { url, replicas: REPLICAS },
    defaults: { ttlMs: TTL_MS, ackTimeoutMs: ACK_TIMEOUT_MS, acks: 1 },
  })
  try {
    await locks.connect()
    for (let pair = 0; pair < PAIRS_BEFORE; pair++) await (await locks.acquireStrong('before')).release()
    await monitor.cmd('MONITOR')
    await (await locks.acquireStrong(NAME)).release()
    const calls = () =>
      monitor.messages.map(String).filter((line) => line.includes(' "EVALSHA" ') && line.includes(NAME))
    await eventually('two scripts are called', () => calls().length === 2)
    const [acquire, release] = calls().map(argumentsOf)
    const owner = acquire?.find((each) => release?.includes(each) && /^[\da-f]{32}$/.test(each))
    if (!acquire || !release || owner === undefined) throw new Error('the scripts have another form')
    return { acquire: toCall(acquire, owner), release: toCall(release, owner) }
  } finally {
    monitor.close()
    await locks.close()
  }
}

/**
 * Of `1700000000.123456 [0 127.0.0.1:50000] "EVALSHA" "…" "3" …`, all after the command; none of them has
 * characters that are quoted.
 *
 * @param {string} line
 */
function argumentsOf(line) {
  return [...line.matchAll(/"(.*?)"/g)].slice(1).map(([, text]) => String(text))
}

/** @param {string[]} observed @param {string} observedOwner @returns {Call} */
function toCall(observed, observedOwner) {
  const place = observed.indexOf(observedOwner)
  /** @type {Map<string, string[]>} */
  const known = new Map()
  return (resource, owner) => {
    let args = known.get(resource)
    if (!args) {
      args = observed.map((text) => text.replace(NAME, resource))
      known.set(resource, args)
    }
    const call = args.slice()
    call[place] = owner
    return call
  }
}
