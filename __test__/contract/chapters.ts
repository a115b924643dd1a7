/** All chapters of the contract, for one variant of a strategy. */
import { LockManager, type ManagerOptions } from 'fencelock'
import { beforeAll, describe } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing } from '../fixtures/locks'
import { type Variant } from '../fixtures/strategies'
import { endingContract } from './ending'
import { handingOverContract, keepingOnlyContract } from './handing-over'
import { holdingContract } from './holding'
import { inputContract } from './input'
import { keepingContract } from './keeping'
import { leadingContract } from './leading'
import { minimumContract } from './minimum'
import { waitingContract } from './waiting'

/** Declares the tests of these variants. */
export function contractOf(variants: readonly Variant[]): void {
  describe.each(variants)('$name', ({ strategy, isShared, start }) => {
    let options: ManagerOptions
    beforeAll(async () => {
      options = await start()
    })
    const subject = () => ({ strategy, manager: () => new LockManager(options) })
    const another = () => closing(subject().manager())
    const about = { subject, isShared, manager: isShared ? another : onePerTest(another) }

    holdingContract(about)
    keepingContract(about)
    leadingContract(about)
    minimumContract(about)
    waitingContract(about)
    const handingOver = strategy === 'quorum' ? keepingOnlyContract : handingOverContract
    handingOver(about)
    endingContract(about)
    inputContract(about)
  })
}

/** What no other manager sees is tested with one manager in the place of several. */
function onePerTest(another: () => LockManager): () => LockManager {
  let only: LockManager | undefined
  return () => {
    if (only === undefined) {
      onCleanup(() => (only = undefined))
      only = another()
    }
    return only
  }
}
