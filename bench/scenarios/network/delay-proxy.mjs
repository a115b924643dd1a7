/**
 * Starts delay-proxy.c, which puts the primary at a distance from its clients and from its replicas.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { PlainError, run } from '../../../scripts/lib/shell.mjs'
import { need } from '../../../scripts/lib/tools.mjs'
import { end, track } from '../../../scripts/servers/processes.mjs'

/**
 * How late the pieces of a measurement were, in milliseconds.
 *
 * @typedef {{ pieces: number, p50: number, p99: number, max: number }} Late
 */

/** @typedef {Awaited<ReturnType<typeof startDelayProxy>>} DelayProxy */

/** With the compiler that Rust needs anyway. @param {string} folder @returns {Promise<string>} the program */
export async function compileDelayProxy(folder) {
  const output = join(folder, 'delay-proxy')
  await run(await need('cc'), ['-O2', '-o', output, join(import.meta.dirname, 'delay-proxy.c')])
  return output
}

/**
 * @param {string} program
 * @param {number} target a port of 127.0.0.1
 */
export async function startDelayProxy(program, target) {
  const child = track(spawn(program, [String(target)], { stdio: ['pipe', 'pipe', 'inherit'] }))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  /** @param {string} expected how the line begins */
  async function readNumbers(expected) {
    const { value } = await lines.next()
    const [word, ...numbers] = String(value).split(' ')
    if (word !== expected) throw new PlainError(`the delaying proxy has ended: ${String(value)}`)
    return numbers
  }
  const [port, , priority] = await readNumbers('port')
  return {
    port: Number(port),
    /** Whether it runs before everything else: otherwise it is late when all cores are busy. */
    realTime: priority === '1',
    /** Of one direction. @param {number} ms */
    async setDelay(ms) {
      child.stdin.write(`delay ${Math.round(ms * 1e6)}\n`)
      await readNumbers('delay')
    },
    /** Since the last call. @returns {Promise<Late>} */
    async late() {
      child.stdin.write('late\n')
      const [pieces, ...times] = (await readNumbers('late')).map(Number)
      const [p50 = 0, p99 = 0, max = 0] = times.map((nanos) => nanos / 1e6)
      return { pieces: pieces ?? 0, p50, p99, max }
    },
    stop: () => end(child),
  }
}
