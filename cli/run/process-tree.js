'use strict'

/** The processes below a process. */

const { execFileSync } = require('node:child_process')
const { readFileSync, readdirSync } = require('node:fs')

/**
 * All descendants, without the process itself. Those whose parent has ended belong to no tree, and are not
 * found.
 * @param {number} pid
 * @returns {number[]}
 */
function descendants(pid) {
  /** @type {Map<number, number[]>} */
  const children = new Map()
  for (const [child, parent] of parents()) children.set(parent, [...(children.get(parent) ?? []), child])
  /** @type {number[]} */
  const found = []
  const open = [pid]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const below = children.get(next) ?? []
    found.push(...below)
    open.push(...below)
  }
  return found
}

/** @returns {[number, number][]} each process and its parent */
function parents() {
  return process.platform === 'linux' ? fromProc() : fromPs()
}

/** Without `ps`, which slim containers do not have. */
function fromProc() {
  /** @type {[number, number][]} */
  const pairs = []
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name)) {
      try {
        // The program's name is in parentheses, and may contain any character.
        const [, parent] = /^.*\) \S (\d+)/s.exec(readFileSync(`/proc/${name}/stat`, 'latin1')) ?? []
        if (parent !== undefined) pairs.push([Number(name), Number(parent)])
      } catch {
        // It has ended meanwhile.
      }
    }
  }
  return pairs
}

/** @returns {[number, number][]} */
function fromPs() {
  try {
    const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n')
    return lines.map((line) => {
      const [pid, parent] = line.trim().split(/\s+/)
      return [Number(pid), Number(parent)]
    })
  } catch {
    return []
  }
}

module.exports = { descendants }
