/**
 * Each subject runs in a process of its own, which does its share when it is told to. So the subjects take turns on the
 * machine, and still share no heap, no compiled code and no event loop; and one that crashes ends only itself.
 */
import { fork } from 'node:child_process'
import { join } from 'node:path'

import { end, track } from '../../scripts/servers/processes.mjs'

/** @typedef {import('./runtimes.mjs').Runtime} Runtime */
/** @typedef {{ id: number, value?: any, error?: string }} Answer */

const entry = join(import.meta.dirname, '../inside/main.mjs')

/** One share of work is seconds; who is silent for so long hangs. */
const PATIENCE_MS = 120_000

/**
 * Starts a module of `inside/` on a runtime.
 *
 * @param {Runtime} runtime
 * @param {string} module
 * @param {NodeJS.ProcessEnv} [env]
 */
export function startRemote(runtime, module, env = {}) {
  const flags = runtime.kind === 'node' ? ['--expose-gc', '--disable-warning=ExperimentalWarning'] : []
  const child = track(
    fork(entry, [module], {
      execPath: runtime.path,
      execArgv: flags,
      env: { ...process.env, ...runtime.env, ...env },
      // The one that Node and Bun both speak.
      serialization: 'json',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  )
  /** @type {Map<number, (answer: Answer) => void>} */
  const waiting = new Map()
  let calls = 0
  /** @type {string | undefined} */
  let ended
  /** @param {string} why */
  const close = (why) => {
    ended ??= why
    for (const [id, settle] of waiting) settle({ id, error: ended })
  }
  child.on('message', (message) => {
    const answer = /** @type {Answer} */ (message)
    waiting.get(answer.id)?.(answer)
  })
  child.once('error', (error) => close(error.message))
  child.once('exit', (code, signal) => close(`the process ended with ${signal ?? `exit code ${code}`}`))

  return {
    pid: Number(child.pid),
    /**
     * Calls a function that the module exports. Rejects when it throws, when the process ends, or when nothing comes.
     *
     * @param {string} name
     * @param {...unknown} args
     * @returns {Promise<any>}
     */
    call(name, ...args) {
      if (ended !== undefined) return Promise.reject(new Error(ended))
      return new Promise((resolve, reject) => {
        const id = calls++
        const timer = setTimeout(() => settle({ id, error: `no answer to ${name} in time` }), PATIENCE_MS)
        /** @param {Answer} answer */
        function settle({ error, value }) {
          clearTimeout(timer)
          waiting.delete(id)
          if (error === undefined) resolve(value)
          else reject(new Error(error))
        }
        waiting.set(id, settle)
        child.send({ id, name, args })
      })
    },
    end: () => end(child),
  }
}

/** @typedef {ReturnType<typeof startRemote>} Remote */
