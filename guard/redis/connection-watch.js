'use strict'

/**
 * When a client's connections broke. A client that sends a command again by itself reports the answer to the
 * last attempt as if it were the only one; an earlier attempt may have written.
 */

const { hasMethods, propertiesOf } = require('../core/properties.js')

/** @typedef {{ on(event: string, listener: (...args: any[]) => void): unknown }} Emitter */

class ConnectionWatch {
  /** How many connections have broken that commands may have been sent on. */
  breaks = 0
  /** @type {Set<() => void>} */
  #listeners = new Set()

  broke() {
    this.breaks++
    for (const listener of this.#listeners) listener()
  }

  /**
   * Calls the listener at the next breaks.
   * @param {() => void} listener
   * @returns {() => void} ends that
   */
  onBreak(listener) {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

/** The guards of a client share its listeners. @type {WeakMap<object, ConnectionWatch>} */
const watches = new WeakMap()

/**
 * @param {object} client
 * @param {(client: Emitter, watch: ConnectionWatch) => void} listen
 */
function watchOf(client, listen) {
  let watch = watches.get(client)
  if (watch === undefined) {
    watch = new ConnectionWatch()
    watches.set(client, watch)
    if (hasMethods(client, 'on')) listen(/** @type {Emitter} */ (/** @type {unknown} */ (client)), watch)
  }
  return watch
}

/**
 * ioredis: a client, or a cluster with a client for each node. It writes commands only while it is ready.
 * @param {Emitter} client
 * @param {ConnectionWatch} watch
 */
function listenToIoredis(client, watch) {
  let isReady = propertiesOf(client).status === 'ready'
  client.on('ready', () => (isReady = true))
  client.on('close', () => {
    if (isReady) watch.broke()
    isReady = false
  })
  if (!hasMethods(client, 'nodes')) return
  client.on('+node', (/** @type {Emitter} */ node) => listenToIoredis(node, watch))
  for (const node of /** @type {Emitter[]} */ (client.nodes('all'))) listenToIoredis(node, watch)
}

/**
 * node-redis: a client rejects the commands that it has sent when its connection breaks. A sentinel and a
 * cluster may send them to another server, and report the break as one of a node.
 * @param {Emitter} client
 * @param {ConnectionWatch} watch
 */
function listenToNodeRedis(client, watch) {
  for (const event of ['client-error', 'topology-change', 'node-reconnecting', 'node-disconnect']) {
    client.on(event, () => watch.broke())
  }
}

module.exports = { ConnectionWatch, listenToIoredis, listenToNodeRedis, watchOf }
