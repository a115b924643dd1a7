import { afterAll, jest, setSystemTime, test } from 'bun:test'

import { report, tests, underFakeTimers } from './cases.cjs'

test.each(tests)('%s', (_: string, check: () => Promise<void>) => check())

test('with fake timers', async () => {
  jest.useFakeTimers()
  await underFakeTimers(() => setSystemTime(Date.now() + 60_000))
  jest.useRealTimers()
})

afterAll(() => report('bun:test'))
