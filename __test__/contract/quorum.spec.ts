/** The contract for quorum locks: a file of its own, because it runs beside that of the others. */
import { describe } from 'vitest'

import { variants } from '../fixtures/strategies'
import { contractOf } from './chapters'

const quorums = variants.filter(({ strategy }) => strategy === 'quorum')

// There are none where there is no Redis.
describe.skipIf(quorums.length === 0)('a quorum', () => {
  contractOf(quorums)
})
