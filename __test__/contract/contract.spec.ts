/** The contract that every strategy must keep. A new strategy is one entry in fixtures/strategies.ts. */
import { variants } from '../fixtures/strategies'
import { contractOf } from './chapters'

contractOf(variants.filter(({ strategy }) => strategy !== 'quorum'))
