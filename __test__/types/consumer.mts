// An ES module that uses the package.
import { LockManager } from 'fencelock'
import * as everything from 'fencelock'

export const manager: LockManager = new LockManager()
export const same: typeof LockManager = everything.LockManager
