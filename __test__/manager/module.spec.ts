/** What the package exports, and how its errors are recognized. */
import * as fencelock from 'fencelock'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'

import { root } from '../fixtures/temp'

const { LockManager, LockError, LockHeldError, LockLostError } = fencelock

describe('the module', () => {
  it('is one instance for import and require, with named exports', async () => {
    const required = createRequire(import.meta.url)(root) as typeof fencelock
    expect(required.LockManager).toBe(LockManager)
    expect(Object.keys(required).toSorted()).toEqual([
      'BackendUnavailableError',
      'ClosedError',
      'InsufficientReplicasError',
      'LockError',
      'LockHeldError',
      'LockLostError',
      'LockManager',
      'OutcomeUnknownError',
      'StaleTokenError',
      'UnsupportedError',
    ])
  })

  it('has errors that another copy of the package recognizes', async () => {
    const require = createRequire(import.meta.url)
    const path = require.resolve('../../lib/errors.js')
    const { [path]: original } = require.cache
    delete require.cache[path]
    const copy = require(path) as {
      LockHeldError: typeof LockHeldError
      held(...args: unknown[]): Error
      LockError: typeof LockError
    }
    require.cache[path] = original
    expect(copy.LockHeldError).not.toBe(LockHeldError)
    const error = copy.held('local', 'x', ['w', 'x'], 0, 5, false)
    expect(error).toBeInstanceOf(LockHeldError)
    expect(error).toBeInstanceOf(LockError)
    expect(error).toBeInstanceOf(Error)
    expect(error).not.toBeInstanceOf(LockLostError)
    class Mine extends LockHeldError {}
    expect(error).not.toBeInstanceOf(Mine)
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({
      name: 'LockHeldError',
      code: 'LOCK_HELD',
      resource: 'x',
      resources: ['w', 'x'],
      strategy: 'local',
      remainingMs: 5,
    })
  })
})
