import { join } from 'node:path'

import { load } from './common.mjs'
import { TTL_MS } from './conditions.mjs'

/** @typedef {import('./index.mjs').Place} Place */
/** @typedef {import('./index.mjs').Subject} Subject */

/** @param {Place} place @returns {Promise<Subject>} */
export async function open({ folder }) {
  const { default: lockfile } = await load('proper-lockfile')
  // Without a look for the locked file itself, and one attempt. Its release rejects when the lock was lost.
  const options = { realpath: false, retries: 0, stale: TTL_MS }
  return {
    async pair(resource) {
      const release = await lockfile.lock(join(folder, resource), options)
      await release()
    },
    pairSync(resource) {
      const release = lockfile.lockSync(join(folder, resource), options)
      release()
    },
    close() {},
  }
}
