/**
 * What every strategy must keep, whatever it is built on. Each strategy's spec runs this suite.
 */
import { closing } from '../fixtures/locks'
import { endingContract } from './ending'
import { holdingContract } from './holding'
import { inputContract } from './input'
import { keepingContract } from './keeping'
import type { Subject } from './subject'
import { waitingContract } from './waiting'

/** Runs the suite; `subject` is asked within its tests, after the hooks. */
export function contract(subject: () => Subject): void {
  const about = { subject, manager: () => closing(subject().manager()) }
  holdingContract(about)
  keepingContract(about)
  waitingContract(about)
  endingContract(about)
  inputContract(about)
}
