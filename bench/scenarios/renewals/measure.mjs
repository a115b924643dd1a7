/**
 * What it costs to keep many leases alive.
 */
import { startRemote } from '../../harness/remote.mjs'

/** @typedef {import('../../harness/context.mjs').Context} Context */

/**
 * @typedef {object} Renewals
 * @property {number} held locks
 * @property {number} perSecond renewals
 * @property {number} commandsPerSecond commands that the server was sent for them
 * @property {number} percent of a core, while they are renewed
 * @property {number} idlePercent of a core, before there were any
 */

const worker = import.meta.resolve('./worker.mjs')
export const HELD = 10_000
const TTL_MS = 30_000
/** Leases are renewed every third of their TTL. */
const SECONDS = TTL_MS / 3 / 1000

/** @param {Context} context @returns {Promise<Renewals>} */
export async function measureRenewals({ runtime, servers }) {
  const remote = startRemote(runtime, worker)
  try {
    await remote.call('open', servers.url)
    const before = await remote.call('idle', { seconds: SECONDS / 5 })
    await remote.call('hold', { count: HELD, ttlMs: TTL_MS, seconds: SECONDS })
    const [commands, { extended }] = [await servers.commands(), await remote.call('idle', { seconds: 0 })]
    const after = await remote.call('idle', { seconds: SECONDS })
    const sent = (await servers.commands()) - commands
    if (after.held !== HELD) throw new Error(`${HELD - after.held} of ${HELD} were lost`)
    await remote.call('close')
    return {
      held: after.held,
      perSecond: (after.extended - extended) / SECONDS,
      commandsPerSecond: sent / SECONDS,
      percent: after.percent,
      idlePercent: before.percent,
    }
  } finally {
    await remote.end()
  }
}
