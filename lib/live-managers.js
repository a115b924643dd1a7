'use strict'

/** The managers of this copy of the package that still exist, for those that sum up what all of them have. */

/** @typedef {InstanceType<typeof import('./native/call-batch.js').ManagerCalls>} ManagerCalls */

/** @type {Set<WeakRef<ManagerCalls>>} */
const managers = new Set()
/** How many there may be before those that were collected are removed. */
let limit = 16

/** @param {ManagerCalls} calls */
function addManager(calls) {
  managers.add(new WeakRef(calls))
  if (managers.size < limit) return
  for (const each of managers) if (each.deref() === undefined) managers.delete(each)
  limit = Math.max(16, managers.size * 2)
}

/** The calls of each manager. */
function* liveManagers() {
  for (const each of managers) {
    const calls = each.deref()
    if (calls !== undefined) yield calls
  }
}

module.exports = { addManager, liveManagers }
