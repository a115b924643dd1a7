/* global afterAll, jest, test */
const { report, tests, underFakeTimers } = require('./cases.cjs')

test.each(tests)('%s', (_, check) => check())

test('with fake timers', async () => {
  jest.useFakeTimers()
  await underFakeTimers(() => jest.advanceTimersByTimeAsync(60_000))
  jest.useRealTimers()
})

afterAll(() => report('jest'))
