/** Test suites of users, with the runners that they use: `__test__/projects/test-runners`. */
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { cpSync, existsSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { onBun } from '../fixtures/processes/runtimes'
import { consumerDir, root } from '../fixtures/temp'

const project = join(root, '__test__/projects/test-runners')

/** One with 100 tests that use fencelock/testing. */
interface Suite {
  runner: string
  args: string[]
  env?: Record<string, string>
  /** What it prints when all of its tests have passed. */
  passed: RegExp
}

const vitest = [join(project, 'node_modules/vitest/vitest.mjs'), 'run', 'vitest.test.mjs']
const jest = [join(project, 'node_modules/jest/bin/jest.js'), '--detectOpenHandles', 'jest.test.cjs']

const onNode: Suite[] = [
  { runner: 'vitest', args: vitest, passed: /Tests\s+102 passed/ },
  {
    runner: 'vitest',
    args: [...vitest, '--environment', 'jsdom'],
    env: { SUITE_ENVIRONMENT: 'jsdom' },
    passed: /Tests\s+102 passed/,
  },
  { runner: 'jest', args: jest, passed: /Tests:\s+101 passed, 101 total/ },
  {
    runner: 'node:test',
    // Node warns of its own fake timers.
    args: ['--test-reporter=tap', '--disable-warning=ExperimentalWarning', 'node.test.mjs'],
    passed: /# pass 101\n# fail 0/,
  },
]
const suites = onBun
  ? [{ runner: 'bun:test', args: ['test', './bun.test.ts'], passed: /101 pass\n\s+0 fail/ }]
  : onNode

describe.each(suites)('a suite of $runner: $args', ({ runner, args, env, passed }: Suite) => {
  let output: string
  let ending: SpawnSyncReturns<string>
  beforeAll(() => {
    if (!existsSync(join(project, 'node_modules/jest'))) {
      throw new Error('the test runners are missing: run `npm ci` in __test__/projects/test-runners')
    }
    const folder = consumerDir()
    cpSync(join(project, 'suites'), folder, { recursive: true })
    symlinkSync(join(project, 'node_modules/vitest'), join(folder, 'node_modules/vitest'), 'junction')
    const config = { testMatch: ['**/*.test.cjs'], testEnvironment: 'node', transform: {} }
    writeFileSync(
      join(folder, 'package.json'),
      JSON.stringify({ name: 'a-service', private: true, jest: config }),
    )
    // Not as a part of these tests, which run in a runner, too.
    const own = /^(VITEST.*|TEST|NODE_ENV|NODE_OPTIONS|JEST_WORKER_ID)$/
    const inherited = Object.entries(process.env).filter(([name]) => !own.test(name))
    ending = spawnSync(process.execPath, args, {
      cwd: folder,
      env: { ...Object.fromEntries(inherited), ...env, NO_COLOR: '1', FORCE_COLOR: '0' },
      encoding: 'utf8',
      timeout: 100_000,
    })
    output = `${ending.stdout}\n${ending.stderr}`
  }, 110_000)

  it('passes, and ends by itself without a warning or an open handle', () => {
    expect(output).toMatch(passed)
    expect({ status: ending.status, signal: ending.signal }).toEqual({ status: 0, signal: null })
    expect(output).not.toMatch(/warning|open handle|did not exit|close timed out|unhandled/i)
  })

  it('has no test that takes long', () => {
    const reported = new RegExp(`durations of ${runner}: (\\[.*\\])`).exec(output)
    const durations = (JSON.parse(reported![1]!) as number[]).toSorted((a, b) => a - b)
    expect(durations).toHaveLength(100)
    // There are six kinds of tests: if one kind were slow, the 85th duration would be, too.
    expect(durations[84]).toBeLessThan(50)
    // None waits for a lease to expire, or for `close()` to give up.
    expect(durations[99]).toBeLessThan(4_000)
  })
})
