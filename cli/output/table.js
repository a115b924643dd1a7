'use strict'

/** A table of locks. */

const { readable } = require('../options/durations.js')
const { columns, plain } = require('./print.js')

/** @import { LockInfo } from '../../index.js' */

const HEADER = ['RESOURCE', 'HOLDER', 'TOKEN', 'REMAINING', 'WAITERS']

/**
 * By resource.
 * @param {readonly LockInfo[]} locks
 * @returns {{ header: string, rows: string[] }}
 */
function tableOf(locks) {
  const rows = locks
    .toSorted((a, b) => (a.resource < b.resource ? -1 : 1))
    .map(({ resource, holder, token, remainingMs, waiters }) => [
      plain(resource),
      holder === null ? '?' : plain(holder.name),
      String(token),
      readable(remainingMs),
      String(waiters),
    ])
  const [header = '', ...lines] = columns([HEADER, ...rows])
  return { header, rows: lines }
}

/**
 * As JSON has it.
 * @param {LockInfo} info
 */
function lockJson(info) {
  return { held: true, ...info.toJSON() }
}

module.exports = { lockJson, tableOf }
