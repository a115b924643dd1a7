'use strict'

/**
 * The strategies: all that distinguishes them on the JavaScript side. To add one, add it here, its methods to
 * lock-manager.js and its declarations to index.d.ts; `npm run typecheck` names what is missing.
 */

const wire = require('./native/wire.js')

/** @import { ManagerConfig } from '../binding.js' */

/**
 * @typedef {object} StrategyInfo
 * @property {import('../index.js').Strategy} name
 * @property {number} number as the addon knows it
 * @property {Exclude<keyof ManagerConfig, 'prefix' | 'holder'>} option of the manager that configures the
 *   backend
 * @property {string} example of that option, for messages
 * @property {boolean} prefixed whether the manager's prefix is part of the names of its locks
 * @property {boolean} acknowledged whether replicas acknowledge grants, so that acquires take `acks`
 * @property {boolean} votes whether a majority of nodes grants a lease, which lasts no longer than the
 *   option `maxTtlMs`
 * @property {boolean} startsAtOnce whether the first call of an event-loop turn is passed on immediately, to
 *   a backend thread that has nothing else to do; otherwise calls are gathered until the turn ends and share
 *   a round trip
 * @property {boolean} sync whether its locks can also be taken and released on the calling thread
 */

const STRATEGIES = /** @satisfies {Record<import('../index.js').Strategy, StrategyInfo>} */ ({
  strong: {
    name: /** @type {const} */ ('strong'),
    number: wire.strategy.strong,
    option: 'redis',
    example: "'redis://127.0.0.1:6379'",
    prefixed: true,
    acknowledged: true,
    votes: false,
    startsAtOnce: false,
    sync: false,
  },
  quorum: {
    name: /** @type {const} */ ('quorum'),
    number: wire.strategy.quorum,
    option: 'quorum',
    example: "{ nodes: ['redis://a', 'redis://b', 'redis://c'] }",
    prefixed: true,
    acknowledged: false,
    votes: true,
    startsAtOnce: false,
    sync: false,
  },
  local: {
    name: /** @type {const} */ ('local'),
    number: wire.strategy.local,
    option: 'local',
    example: "'locks.sqlite'",
    prefixed: false,
    acknowledged: false,
    votes: false,
    startsAtOnce: true,
    sync: /** @type {const} */ (true),
  },
})

/**
 * A manager's default strategy is the first one whose backend is configured.
 * @type {readonly StrategyInfo[]}
 */
const byPrecedence = Object.values(STRATEGIES)

const names = byPrecedence.map(({ name }) => name)

module.exports = { STRATEGIES, byPrecedence, names }
