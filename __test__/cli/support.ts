/** What several specs of the command line begin with. */
import { LockManager, type ManagerOptions } from 'fencelock'
import { join } from 'node:path'

import { closing } from '../fixtures/locks'
import { Notes } from '../fixtures/processes/cli'
import { tempDir } from '../fixtures/temp'

/** The variables that lead the program to the locks of such a manager. */
export function environmentOf(options: ManagerOptions): NodeJS.ProcessEnv {
  return {
    FENCELOCK_REDIS: options.redis as string | undefined,
    FENCELOCK_QUORUM: options.quorum?.nodes.map((node) => node as string).join(','),
    FENCELOCK_RESTART_DELAY: '0s',
    FENCELOCK_LOCAL: options.local as string | undefined,
  }
}

/** A new lock file, a manager on it, and a file in which commands note what happens to them. */
export function localJob(): { env: NodeJS.ProcessEnv; notes: Notes; locks: LockManager } {
  const file = join(tempDir(), 'locks.sqlite')
  const notes = new Notes()
  return {
    env: { FENCELOCK_LOCAL: file, NOTES: notes.file },
    notes,
    locks: closing(new LockManager({ local: file })),
  }
}
