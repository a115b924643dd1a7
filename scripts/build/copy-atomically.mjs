import { copyFileSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'

/** Copies a file whole or not at all, and as a new one: a process may have the old one loaded. @param {string} from @param {string} to */
export function copyAtomically(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, `${to}.new`)
  renameSync(`${to}.new`, to)
}
