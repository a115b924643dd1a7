/**
 * What every SQL guard must keep, whatever the store and the client. Each store's spec runs these suites.
 */
export { exampleSuite } from './examples'
export { guardSuite } from './run'
export { poolSuite, raceTokens, singleSuite } from './sharing'
export { storySuite } from './stories'
export { open, row, setTo, valueOf } from './subject'
export { brokenSuite, roundTrips } from './wire'
