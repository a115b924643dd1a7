/** What the contract's chapters know about the strategy that they test. */
import type { LockManager, Strategy } from 'fencelock'

export interface Subject {
  strategy: Strategy
  /** A new manager on the same store as every other one of this subject. */
  manager(): LockManager
}

/** Declares tests. `subject` is called inside them; `manager` makes a manager, closed after the test. */
export type Chapter = (about: { subject: () => Subject; manager: () => LockManager }) => void
