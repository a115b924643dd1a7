'use strict'

/**
 * What happens without a call: the addon reports it only while there are subscribers. Who subscribes is not
 * told anywhere, so it is looked at whenever an event-loop turn has calls, or the addon wakes JavaScript.
 */

const { acquiring, connection, isTraced, lost, renewed, waiting } = require('./channels.js')
const { onEvents, tellTopics } = require('../native/completions.js')
const wire = require('../native/wire.js')

const { waits: WAITS, losses: LOSSES, renewals: RENEWALS, connections: CONNECTIONS } = wire.topic

/** The topics that have subscribers. */
function topics() {
  return (
    (isTraced(acquiring) || isTraced(waiting) ? WAITS : 0) |
    (lost.hasSubscribers ? LOSSES : 0) |
    (renewed.hasSubscribers ? RENEWALS : 0) |
    (connection.hasSubscribers ? CONNECTIONS : 0)
  )
}

onEvents(topics, (event) => require('./events.js').publish(event))

/** Looks now who subscribes. */
function listen() {
  tellTopics()
}

module.exports = { listen }
