/** What the contract's chapters know about the strategy that they test. */
import type { LockManager, ManagerOptions, Strategy } from 'fencelock'

export interface Subject {
  strategy: Strategy
  /** A new manager, on the same store as every other one of this subject if it can be shared. */
  manager(more?: Pick<ManagerOptions, 'holderName'>): LockManager
}

export interface About {
  /** Called inside tests. */
  subject: () => Subject
  /** Whether several managers share a store. Tests that close one and look with another one need that. */
  isShared: boolean
  /** Makes a manager, closed after the test; without a shared store, the same one throughout a test. */
  manager: () => LockManager
}

/** Declares tests. */
export type Chapter = (about: About) => void
