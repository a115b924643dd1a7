/**
 * All chapters of the contract, for one variant of a strategy. Each variant has a spec file of its own: they
 * wait for leases most of the time, and files run side by side.
 */
import { LockManager, type ManagerOptions } from 'fencelock'
import { beforeAll, describe } from 'vitest'

import { onCleanup } from '../../fixtures/cleanup'
import { closing } from '../../fixtures/locks'
import { allVariants, variants } from '../../fixtures/strategies'
import { endingContract } from './ending'
import { handingOverContract, keepingOnlyContract } from './handing-over'
import { holdingContract } from './holding'
import { inputContract } from './input'
import { keepingContract } from './keeping'
import { leadingContract } from './leading'
import { listingContract } from './listing'
import { minimumContract } from './minimum'
import { waitingContract } from './waiting'

/** Declares the tests of the variant with this name. */
export function contractOf(name: string): void {
  const variant = allVariants.find((each) => each.name === name)
  if (variant === undefined) throw new Error(`there is no variant "${name}"`)
  const { strategy, isShared, start } = variant
  // The rule takes the parameter for something that is not a text.
  // oxlint-disable-next-line vitest/valid-title
  describe.skipIf(!variants.includes(variant))(name, () => {
    let options: ManagerOptions
    beforeAll(async () => {
      options = await start()
    })
    const subject = () => ({
      strategy,
      manager: (more?: ManagerOptions) => new LockManager({ ...options, ...more }),
    })
    const another = () => closing(subject().manager())
    const about = { subject, isShared, manager: isShared ? another : onePerTest(another) }

    holdingContract(about)
    keepingContract(about)
    leadingContract(about)
    listingContract(about)
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
