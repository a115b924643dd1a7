import { fileURLToPath } from 'node:url'
import { configDefaults, defineConfig, type TestProjectInlineConfiguration } from 'vitest/config'

type ProjectConfig = NonNullable<TestProjectInlineConfiguration['test']>

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** Patterns of spec files to leave out: the command line's `--exclude` does not reach the groups. */
const leftOut = process.env.FENCELOCK_EXCLUDED_SPECS?.split('\n') ?? []

/** Spec files that run side by side, after those of the groups before. */
const group = (name: string, groupOrder: number, { exclude = [], ...test }: ProjectConfig) => ({
  extends: true as const,
  test: {
    name,
    sequence: { groupOrder },
    exclude: [...configDefaults.exclude, ...exclude, ...leftOut],
    ...test,
  },
})

export default defineConfig({
  resolve: {
    // Vite does not know self-reference; Node and Bun do, so child scripts just import 'fencelock'.
    alias: [
      { find: /^fencelock$/, replacement: file('index.js') },
      { find: /^fencelock\/guard$/, replacement: file('guard/index.js') },
      { find: /^fencelock\/otel$/, replacement: file('otel/index.js') },
      { find: /^fencelock\/testing$/, replacement: file('testing/index.js') },
    ],
  },
  test: {
    projects: [
      // These tests mostly wait for leases to end, so all files run at once, before the others.
      group('contract', 0, { include: ['__test__/contract/*.spec.ts'], maxWorkers: 6 }),
      // For the two cores of the CI: much of the time these wait, too.
      group('suites', 1, {
        include: ['__test__/**/*.spec.ts'],
        exclude: ['__test__/projects/**', '__test__/contract/**'],
        maxWorkers: 4,
      }),
    ],
    globalSetup: ['__test__/fixtures/global-setup.ts'],
    setupFiles: ['__test__/fixtures/cleanup.ts', '__test__/fixtures/kept-locks.ts'],
    // A process per spec file: a crash of the addon ends one file only, and threads would share its
    // process-wide state.
    pool: 'forks',
    // The published files are tested as they are: the runtime loads them, and Vite does not transform them.
    server: { deps: { external: [/\/index\.js$/, /\/(lib|guard|otel|testing)\/.+\.js$/] } },
    // Generous, because a busy machine may take seconds to start a process.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 10_000 } },
    teardownTimeout: 10_000,
    // A slow test is a hint that something waits for a timeout.
    slowTestThreshold: 2000,
    passWithNoTests: false,
    // Retries would hide exactly the bugs that these tests look for.
    retry: 0,
    unstubEnvs: true,
    restoreMocks: true,
  },
})
