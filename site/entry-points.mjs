/**
 * What users import, and where its declarations are.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { root } from '../scripts/lib/shell.mjs'

/**
 * The declarations of each entry point, by the name that users import.
 *
 * @returns {Map<string, string>} such as `fencelock/guard` and the path `guard/index.d.ts`
 */
export function entryPoints() {
  const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  /** @type {[string, string | { types?: string }][]} */
  const entries = Object.entries(exports)
  return new Map(
    entries.flatMap(([key, target]) =>
      typeof target === 'object' && target.types
        ? [[name + key.slice(1), target.types.replace(/^\.\//, '')]]
        : [],
    ),
  )
}

/** The folder of an entry point in the reference. @param {string} name such as `fencelock/guard` */
export function moduleFolder(name) {
  return name.slice(name.lastIndexOf('/') + 1)
}
