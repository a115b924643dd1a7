/**
 * What a process has used so far, as Linux reports it: the processor time of its threads, and its system
 * calls.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { which } from '../../../scripts/lib/shell.mjs'

/**
 * Microseconds of processor time since each thread began, and how often it has yielded the processor to wait.
 *
 * @typedef {Map<string, { micros: number, waits: number }>} Usage by thread; the first is the process's own
 */

/** @param {number} pid @returns {Usage} */
export function usage(pid) {
  const folder = `/proc/${pid}/task`
  /** @type {Usage} */
  const threads = new Map()
  for (const thread of readdirSync(folder)) {
    try {
      const [nanos] = readFileSync(`${folder}/${thread}/schedstat`, 'utf8').split(' ')
      const status = readFileSync(`${folder}/${thread}/status`, 'utf8')
      const waits = /^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1]
      threads.set(thread, { micros: Number(nanos) / 1000, waits: Number(waits) })
    } catch {
      // It has ended.
    }
  }
  return threads
}

/**
 * Counts the system calls of a process while it works.
 *
 * @template T
 * @param {number} pid
 * @param {() => Promise<T>} work
 * @returns {Promise<{ done: T, calls: Record<string, number> } | undefined>} undefined where strace is
 *   missing or may not trace
 */
export async function countCalls(pid, work) {
  if (!which('strace')) return undefined
  const strace = spawn('strace', ['-c', '-f', '-p', String(pid)], { stdio: ['ignore', 'ignore', 'pipe'] })
  let text = ''
  strace.stderr.on('data', (data) => (text += String(data)))
  const ended = once(strace, 'close')
  for (let tries = 0; !text.includes('attached') && tries < 100; tries++) await sleep(20)
  if (!text.includes('attached')) {
    strace.kill()
    return undefined
  }
  try {
    const done = await work()
    return { done, calls: await counted() }
  } finally {
    strace.kill('SIGINT')
  }

  async function counted() {
    strace.kill('SIGINT')
    await ended
    // "  2.74    0.776084           2    300483        13 fcntl": the errors are mostly missing.
    const lines = [...text.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/gm)]
    return Object.fromEntries(
      lines.map(([, count, name]) => [String(name), Number(count)]).filter(([name]) => name !== 'total'),
    )
  }
}
