/** The contract that every strategy must keep. A new strategy is one entry in fixtures/strategies.ts. */
import { LockManager, type ManagerOptions } from 'fencelock'
import { beforeAll, describe } from 'vitest'

import { closing } from '../fixtures/locks'
import { variants } from '../fixtures/strategies'
import { endingContract } from './ending'
import { holdingContract } from './holding'
import { inputContract } from './input'
import { keepingContract } from './keeping'
import { waitingContract } from './waiting'

describe.each(variants)('$name', ({ strategy, start }) => {
  let options: ManagerOptions
  beforeAll(async () => {
    options = await start()
  })
  const subject = () => ({ strategy, manager: () => new LockManager(options) })
  const about = { subject, manager: () => closing(subject().manager()) }

  holdingContract(about)
  keepingContract(about)
  waitingContract(about)
  endingContract(about)
  inputContract(about)
})
