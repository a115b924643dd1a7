'use strict'

/** What `stats()` returns. */

const { STRATEGIES } = require('./strategies.js')

const strategies = Object.values(STRATEGIES)

/** @import * as Native from '../binding.js' */
/** @import * as Public from '../index.js' */

/**
 * @param {Native.StatsReport} report
 * @returns {Public.ManagerStats}
 */
function statsOf({ counts, waitMs, holdMs, connections }) {
  const { lostExpired: expired, lostTaken: taken, lostFailover: failover, lostFile: file, ...others } = counts
  return {
    ...others,
    losses: { expired, taken, failover, file },
    waitMs,
    holdMs,
    connections: connections.map(({ strategy, serverAddress, serverPort, open }) => ({
      strategy: /** @type {Public.Strategy} */ (strategies.find(({ number }) => number === strategy)?.name),
      serverAddress,
      serverPort,
      open,
    })),
  }
}

module.exports = { statsOf }
