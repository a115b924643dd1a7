import { afterAll, expect, test, vi } from 'vitest'

import { report, tests, underFakeTimers } from './cases.cjs'

test.each(tests)('%s', (_, check) => check())

test('with fake timers', async () => {
  vi.useFakeTimers()
  await underFakeTimers(() => vi.advanceTimersByTimeAsync(60_000))
  vi.useRealTimers()
})

test('in the environment that was asked for', () => {
  expect(typeof document).toBe(process.env.SUITE_ENVIRONMENT === 'jsdom' ? 'object' : 'undefined')
})

afterAll(() => report('vitest'))
