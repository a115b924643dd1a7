/** That the suites and their child processes run on the intended runtime. */
import { expect, test } from 'vitest'

import { runCode } from '../fixtures/processes/processes'

// `npm test` states on which runtime it starts the suites; a wrapper could start another one.
const expected = process.env.FENCELOCK_EXPECTED_RUNTIME

test.runIf(expected !== undefined)('the suites run on the intended runtime', () => {
  const { bun, node } = process.versions
  expect(bun === undefined ? `node ${node}` : `bun ${bun}`).toBe(expected)
})

test('child scripts run on the same runtime', async () => {
  const { stdout } = await runCode('say(process.versions)')
  const { bun, node } = JSON.parse(stdout) as NodeJS.ProcessVersions
  expect({ bun, node }).toEqual({ bun: process.versions.bun, node: process.versions.node })
})
