// A Redis primary and two replicas for the demo, on loopback and in a temporary directory.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'

const SERVER = process.env.FENCELOCK_REDIS_SERVER ?? 'redis-server'

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function start(dir, port, ...extra) {
  mkdirSync(join(dir, `redis-${port}`))
  const options = [
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
    '--repl-diskless-sync-delay',
    '0',
  ]
  const args = ['--port', port, '--dir', join(dir, `redis-${port}`), ...options, ...extra]
  return spawn(SERVER, args.map(String), { stdio: 'ignore' })
}

/** Sends commands over one connection and answers their one-line replies, or undefined if nobody is there. */
function ask(port, ...commands) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    let replies = ''
    socket.on('error', () => resolve(undefined))
    socket.on('data', (data) => {
      replies += String(data)
      if (replies.split('\r\n').length <= commands.length) return
      socket.destroy()
      resolve(replies)
    })
    socket.write(commands.map((command) => `${command}\r\n`).join(''))
  })
}

/** Starts the three servers; undefined if there is no redis-server. */
export async function startRedis(dir) {
  const probe = spawn(SERVER, ['--version'], { stdio: 'ignore' })
  const found = await Promise.race([
    once(probe, 'exit').then(() => true),
    once(probe, 'error').then(() => false),
  ])
  if (!found) return undefined
  const port = await freePort()
  const servers = [start(dir, port)]
  for (let replica = 0; replica < 2; replica++) {
    servers.push(start(dir, await freePort(), '--replicaof', '127.0.0.1', port))
  }
  const stop = async () => {
    for (const server of servers) {
      server.kill('SIGKILL')
      if (server.exitCode === null && server.signalCode === null) await once(server, 'exit')
    }
  }
  const end = Date.now() + 20_000
  // Until both replicas acknowledge, several times in a row: at first WAIT counts replicas that are still loading.
  for (let rounds = 0; rounds < 5;) {
    rounds = (await ask(port, 'SET demo 1 PX 1', 'WAIT 2 100')) === '+OK\r\n:2\r\n' ? rounds + 1 : 0
    if (Date.now() > end) {
      await stop()
      throw new Error('the Redis replicas did not come up within 20 s')
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    pauseReplica: () => servers[2].kill('SIGSTOP'),
    resumeReplica: () => servers[2].kill('SIGCONT'),
    stop,
  }
}
