import { copyFileSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Copies a file completely or not at all. The target is a new file, because a process may have loaded the old
 * one.
 *
 * @param {string} from
 * @param {string} to
 */
export function copyAtomically(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, `${to}.new`)
  renameSync(`${to}.new`, to)
}
