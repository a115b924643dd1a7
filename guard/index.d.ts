/** `fencelock/guard`: the check of fencing tokens where the data lives. Loads no addon. */

export {
  BackendUnavailableError,
  LockError,
  LockLostError,
  OutcomeUnknownError,
  StaleTokenError,
  UnsupportedError,
} from '../index'
export * from './http'
export * from './lease'
export * from './redis'
