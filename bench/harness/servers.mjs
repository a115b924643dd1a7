/**
 * One Redis primary and two replicas.
 */
import { startPrimary } from '../../scripts/servers/redis.mjs'
import { REPLICAS } from '../subjects/conditions.mjs'

/**
 * A replica that was suspended must catch up without a full synchronisation; the rest are the defaults of
 * Redis.
 */
const config = ['repl-backlog-size 64mb', 'repl-ping-replica-period 10', 'repl-timeout 60']

/**
 * @typedef {object} Servers
 * @property {string} program of the servers
 * @property {string} url of the primary
 * @property {number} port of the primary
 * @property {number[]} pids of the primary and the replicas
 * @property {() => void} pauseReplica suspends one replica: its connections stay open and it does not reply
 * @property {() => Promise<void>} resumeReplica
 * @property {() => Promise<number>} waits how many WAITs the primary has served
 * @property {() => Promise<number>} commands how many commands clients have sent it, and how many messages it
 *   has published
 * @property {() => Promise<void>} stop
 */

/**
 * Starts the three servers and waits until both replicas acknowledge.
 *
 * @param {string} program
 * @returns {Promise<Servers>}
 */
export async function startServers(program) {
  const { primary, replicas, url, stop } = await startPrimary({ program, config, replicas: REPLICAS })
  /** @param {string[]} commands */
  const count = async (commands) => {
    const calls = await primary.calls()
    return commands.reduce((sum, command) => sum + (calls[command] ?? 0), 0)
  }
  return {
    program,
    url,
    port: primary.port,
    pids: [primary, ...replicas].map(({ pid }) => Number(pid)),
    pauseReplica: () => replicas.at(-1)?.pause(),
    async resumeReplica() {
      replicas.at(-1)?.resume()
      await primary.waitForReplicas(REPLICAS)
    },
    waits: () => count(['wait']),
    commands: () => count(['evalsha', 'wait', 'publish']),
    stop,
  }
}
