import { fileURLToPath } from 'node:url'
import { configDefaults, defineConfig } from 'vitest/config'

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  resolve: {
    // Vite does not know self-reference; Node and Bun do, so child scripts just import 'fencelock'.
    alias: [
      { find: /^fencelock$/, replacement: file('index.js') },
      { find: /^fencelock\/guard$/, replacement: file('guard/index.js') },
      { find: /^fencelock\/testing$/, replacement: file('testing/index.js') },
    ],
  },
  test: {
    include: ['__test__/**/*.spec.ts'],
    exclude: [...configDefaults.exclude, '__test__/projects/**'],
    globalSetup: ['__test__/fixtures/global-setup.ts'],
    setupFiles: ['__test__/fixtures/cleanup.ts'],
    // A process per spec file: a crash of the addon ends one file only, and threads would share its
    // process-wide state.
    pool: 'forks',
    // For the two cores of the CI: much of the time the tests wait for a lease to end.
    maxWorkers: 3,
    // The published files are tested as they are: the runtime loads them, and Vite does not transform them.
    server: { deps: { external: [/\/index\.js$/, /\/(lib|guard|testing)\/.+\.js$/] } },
    testTimeout: 30_000,
    hookTimeout: 30_000,
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
