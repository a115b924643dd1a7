/** All chapters of the contract, for one variant of a strategy. */
import { LockManager, type ManagerOptions } from 'fencelock'
import { beforeAll, describe } from 'vitest'

import { closing } from '../fixtures/locks'
import { type Variant } from '../fixtures/strategies'
import { endingContract } from './ending'
import { holdingContract } from './holding'
import { inputContract } from './input'
import { keepingContract } from './keeping'
import { leadingContract } from './leading'
import { waitingContract } from './waiting'

/** Declares the tests of these variants. */
export function contractOf(variants: readonly Variant[]): void {
  describe.each(variants)('$name', ({ strategy, start }) => {
    let options: ManagerOptions
    beforeAll(async () => {
      options = await start()
    })
    const subject = () => ({ strategy, manager: () => new LockManager(options) })
    const about = { subject, manager: () => closing(subject().manager()) }

    holdingContract(about)
    keepingContract(about)
    leadingContract(about)
    waitingContract(about)
    endingContract(about)
    inputContract(about)
  })
}
