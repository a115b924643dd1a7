/**
 * What is the same for all subjects.
 */

/** Replicas of the Redis primary. */
export const REPLICAS = 2
/** The TTL of every lease. @type {10_000} */
export const TTL_MS = 10_000
/** How long every subject waits for acknowledgements. @type {50} */
export const ACK_TIMEOUT_MS = 50

/** @typedef {'strong' | 'local'} Strategy */

/** @type {readonly Strategy[]} */
export const strategies = ['strong', 'local']
