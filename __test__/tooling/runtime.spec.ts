import { expect, test } from 'vitest'

import { runCode } from '../fixtures/processes/processes'

// `npm test` says on which runtime it starts the suites; a wrapper could have taken another one.
const expected = process.env.FENCELOCK_EXPECTED_RUNTIME

test.runIf(expected !== undefined)('the suites run on the runtime they are meant for', () => {
  const { bun, node } = process.versions
  expect(bun === undefined ? `node ${node}` : `bun ${bun}`).toBe(expected)
})

test('child scripts run on the same runtime', async () => {
  const { stdout } = await runCode('say(process.versions)')
  const { bun, node } = JSON.parse(stdout) as NodeJS.ProcessVersions
  expect({ bun, node }).toEqual({ bun: process.versions.bun, node: process.versions.node })
})
