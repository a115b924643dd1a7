/** What the contract needs to know of a strategy, and how its chapters get it. */
import type { LockManager, Strategy } from 'fencelock'

export interface Subject {
  strategy: Strategy
  /** A new manager on the same store as every other one of this subject. */
  manager(): LockManager
}

/** Declares tests. `manager` makes a manager of the subject, which is closed after the test. */
export type Chapter = (about: { subject: () => Subject; manager: () => LockManager }) => void
