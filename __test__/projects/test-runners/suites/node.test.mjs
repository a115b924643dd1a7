import { after, mock, test } from 'node:test'

import { report, tests, underFakeTimers } from './cases.cjs'

for (const [name, check] of tests) test(name, check)

test('with fake timers', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] })
  await underFakeTimers(() => mock.timers.tick(60_000))
  mock.timers.reset()
})

after(() => report('node:test'))
