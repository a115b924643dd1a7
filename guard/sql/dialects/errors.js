'use strict'

/**
 * Query builders wrap the errors of drivers: what is looked for may be a cause of what was thrown.
 * @param {(error: any) => boolean} matches
 * @returns {(error: unknown) => boolean}
 */
function byCause(matches) {
  return (error) => {
    const seen = new Set()
    for (let e = error; typeof e === 'object' && e !== null && !seen.has(e); e = e.cause) {
      if (matches(e)) return true
      seen.add(e)
    }
    return false
  }
}

module.exports = { byCause }
