/**
 * `npm run typecheck`: this project's own code, then the declarations as users see them under each way to
 * resolve modules, with the newest and the oldest compiler we support.
 */
import { join } from 'node:path'

import { PlainError, root, run, runMain, say } from '../lib/shell.mjs'
import { installPackages } from './setup.mjs'

const consumers = ['tsconfig.json', 'tsconfig.node16.json', 'tsconfig.bundler.json'].map(
  (name) => `__test__/projects/types/${name}`,
)
const checks = [
  { compiler: 'typescript', projects: ['tsconfig.json', 'examples/nest/tsconfig.json', ...consumers] },
  // The first with `using` and its library types.
  { compiler: 'typescript-oldest', projects: consumers },
]

await runMain(async () => {
  // They import packages of their own.
  await installPackages('examples')
  await installPackages('site')
  const failed = []
  for (const { compiler, projects } of checks) {
    for (const project of projects) {
      say(`${compiler} ${project}`)
      // By its path: both compilers are called `tsc`.
      const { ok } = await run(process.execPath, [
        join(root, 'node_modules', compiler, 'bin/tsc'),
        '--noEmit',
        '-p',
        project,
      ])
      if (!ok) failed.push(`${compiler} ${project}`)
    }
  }
  if (failed.length > 0) throw new PlainError(`type errors: ${failed.join(', ')}`)
})
