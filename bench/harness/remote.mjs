/**
 * Each subject runs in a worker process of its own and works only when it is called. So the subjects take
 * turns on the machine but share no heap, no compiled code and no event loop, and a crash ends only one of
 * them.
 */
import { fork } from 'node:child_process'
import { join } from 'node:path'

import { end, track } from '../../scripts/servers/processes.mjs'

/** @typedef {import('./runtimes.mjs').Runtime} Runtime */
/** @typedef {{ id: number, value?: any, error?: string }} Reply */

const entry = join(import.meta.dirname, 'worker-main.mjs')

/** A call takes seconds; a worker that does not reply for this long hangs. */
const REPLY_LIMIT_MS = 120_000

/**
 * Starts a worker process on a runtime.
 *
 * @param {Runtime} runtime
 * @param {string} module the URL of the module whose functions can be called
 * @param {NodeJS.ProcessEnv} [env]
 */
export function startRemote(runtime, module, env = {}) {
  const flags = runtime.kind === 'node' ? ['--expose-gc', '--disable-warning=ExperimentalWarning'] : []
  const child = track(
    fork(entry, [module], {
      execPath: runtime.path,
      execArgv: flags,
      env: { ...process.env, ...runtime.env, ...env },
      // The format that both Node and Bun support.
      serialization: 'json',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    }),
  )
  /** @type {Map<number, (reply: Reply) => void>} */
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
    const reply = /** @type {Reply} */ (message)
    waiting.get(reply.id)?.(reply)
  })
  child.once('error', (error) => close(error.message))
  child.once('exit', (code, signal) => close(`the process ended with ${signal ?? `exit code ${code}`}`))

  return {
    pid: Number(child.pid),
    /**
     * Calls a function that the module exports. Rejects when it throws, when the process ends, or when no
     * reply comes.
     *
     * @param {string} name
     * @param {...unknown} args
     * @returns {Promise<any>}
     */
    call(name, ...args) {
      if (ended !== undefined) return Promise.reject(new Error(ended))
      return new Promise((resolve, reject) => {
        const id = calls++
        const timer = setTimeout(() => settle({ id, error: `no reply to ${name} in time` }), REPLY_LIMIT_MS)
        /** @param {Reply} reply */
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
