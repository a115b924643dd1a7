/**
 * `npm run lint:imports`: refuses circles of imports, between JavaScript files and between Rust files, and
 * imports from a higher layer.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { capture, PlainError, root, runMain, say } from '../../lib/shell.mjs'
import { circles, upwardImports } from './graph.mjs'
import { readJavaScript } from './javascript.mjs'
import { javascriptLayers, rustLayers } from './layers.mjs'
import { readRust } from './rust.mjs'

const crates = ['core/src/lib.rs', 'src/lib.rs', 'models/src/lib.rs']

await runMain(async () => {
  const listed = await capture('git', ['ls-files', '*.js', '*.cjs', '*.mjs', '*.ts', '*.mts'])
  if (!listed) throw new PlainError('git does not list the files of this project')
  const scripts = listed.split('\n').filter((file) => !file.endsWith('.d.ts') && existsSync(join(root, file)))
  const graphs = [
    { graph: readJavaScript(root, scripts), layers: javascriptLayers },
    ...crates
      .filter((file) => existsSync(join(root, file)))
      .map((file) => ({ graph: readRust(root, file), layers: rustLayers })),
  ]
  const problems = graphs.flatMap(({ graph, layers }) => [
    ...circles(graph).map(
      ({ files, circle }) =>
        `a circle: ${[...circle, circle[0]].join(' → ')} (of ${files.length} files that reach each other)`,
    ),
    ...upwardImports(graph, layers).map(([from, to]) => `from a higher layer: ${from} → ${to}`),
  ])
  if (problems.length > 0) throw new PlainError(`imports are refused:\n  ${problems.join('\n  ')}`)
  const count = graphs.reduce((sum, { graph }) => sum + graph.size, 0)
  say(`${count} files: no circle of imports, and none from a higher layer`)
})
