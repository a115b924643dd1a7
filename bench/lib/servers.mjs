/**
 * One Redis primary and two replicas, on free ports of loopback.
 */
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { PlainError } from '../../scripts/lib/shell.mjs'
import { end, startProgram } from './children.mjs'

export const REPLICAS = 2

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}

/**
 * Sends commands on one connection. Answers the lines that came back; undefined if nobody is there.
 *
 * @param {number} port
 * @param {string[]} commands
 * @param {string} [last] the line that ends it; without it, each command is answered by one line
 * @returns {Promise<string[] | undefined>}
 */
function ask(port, commands, last) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    let text = ''
    socket.on('error', () => resolve(undefined))
    socket.on('close', () => resolve(undefined))
    socket.on('data', (data) => {
      text += String(data)
      const lines = text.split('\r\n')
      if (last === undefined ? lines.length <= commands.length : !lines.includes(last)) return
      resolve(lines.slice(0, -1))
      socket.destroy()
    })
    socket.write(commands.map((command) => `${command}\r\n`).join(''))
  })
}

/**
 * @param {string} program
 * @param {string} folder
 * @param {number} port
 * @param {Record<string, string>} [more]
 */
function startServer(program, folder, port, more) {
  const dir = join(folder, `redis-${port}`)
  mkdirSync(dir)
  const options = {
    port,
    bind: '127.0.0.1',
    dir,
    // No disk: what is measured is the clients and the replication.
    save: '',
    appendonly: 'no',
    // Replicas are there at once, and a stopped one catches up without a full synchronisation.
    'repl-diskless-sync-delay': 0,
    'repl-backlog-size': '64mb',
    ...more,
  }
  return startProgram(
    program,
    Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]),
  )
}

/**
 * @typedef {object} Servers
 * @property {string} url of the primary
 * @property {number} port of the primary
 * @property {number[]} pids of the primary and the replicas
 * @property {() => void} pauseReplica stops one replica in mid-air: its connections stay open and nobody answers
 * @property {() => Promise<void>} resumeReplica
 * @property {() => Promise<number>} waits how many WAITs the primary has served
 * @property {() => Promise<number>} commands how many commands clients have sent it, and how many messages it has published
 * @property {() => Promise<void>} stop
 */

/**
 * Starts the three servers and waits until both replicas acknowledge.
 *
 * @param {string} program
 * @param {string} folder
 * @returns {Promise<Servers>}
 */
export async function startServers(program, folder) {
  const port = await freePort()
  const children = [startServer(program, folder, port)]
  for (let replica = 0; replica < REPLICAS; replica++) {
    children.push(startServer(program, folder, await freePort(), { replicaof: `127.0.0.1 ${port}` }))
  }
  await untilAcknowledged(port)
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    pids: children.map((child) => Number(child.pid)),
    pauseReplica: () => void children.at(-1)?.kill('SIGSTOP'),
    async resumeReplica() {
      children.at(-1)?.kill('SIGCONT')
      await untilAcknowledged(port)
    },
    waits: () => calls(port, ['wait']),
    commands: () => calls(port, ['evalsha', 'wait', 'publish']),
    async stop() {
      await Promise.all(children.map((child) => end(child)))
    },
  }
}

/**
 * How often the server has carried these commands out.
 *
 * @param {number} port
 * @param {string[]} commands
 */
async function calls(port, commands) {
  // The reply has many lines; that of PING behind it ends it.
  const lines = (await ask(port, ['INFO commandstats', 'PING'], '+PONG')) ?? []
  return lines.reduce((sum, line) => {
    const [, command, count] = /^cmdstat_(\w+):calls=(\d+)/.exec(line) ?? []
    return command !== undefined && commands.includes(command) ? sum + Number(count) : sum
  }, 0)
}

/**
 * Several times in a row, because at first WAIT counts replicas that are still loading.
 *
 * @param {number} port
 */
async function untilAcknowledged(port) {
  const limit = performance.now() + 20_000
  for (let inARow = 0; inARow < 5;) {
    const [, acks] = (await ask(port, ['SET bench:up 1 PX 1', `WAIT ${REPLICAS} 100`])) ?? []
    inARow = acks === `:${REPLICAS}` ? inARow + 1 : 0
    if (performance.now() > limit) throw new PlainError('the Redis replicas did not come up within 20 s')
    await sleep(20)
  }
}
