/**
 * What every SQL guard guarantees, with any store and client. The spec of each store runs these suites.
 */
export { exampleSuite } from './examples'
export { ownerSuite } from './owners'
export { guardSuite } from './run'
export { poolSuite, raceTokens, singleSuite } from './sharing'
export { storySuite } from './stories'
export { open, prepare, row, setTo, valueOf } from './subject'
export { brokenSuite, roundTrips } from './wire'
