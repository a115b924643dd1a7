/**
 * The API reference: Markdown that typedoc makes from the declarations of every entry point of the package.
 */
import { resolve } from 'node:path'
import { Application } from 'typedoc'
import { MarkdownPageEvent } from 'typedoc-plugin-markdown'

import { PlainError, root } from '../scripts/lib/shell.mjs'
import { entryPoints, moduleFolder } from './entry-points.mjs'
import { apiFolder } from './pages.mjs'

/**
 * The shapes of other libraries' clients, which are internal to the declarations. typedoc warns when one of
 * them no longer exists.
 */
const clientShapes = [
  'PgPool',
  'PgClient',
  'PostgresJs',
  'MysqlPool',
  'Mysql2CallbackPool',
  'Mysql2CallbackConnection',
  'MysqlConnection',
  'SyncSqliteClient',
]

/** The options of the plugin, which typedoc's types do not have. */
const ofPlugin = {
  entryFileName: 'index',
  hidePageHeader: true,
  hideBreadcrumbs: true,
  parametersFormat: 'table',
  pageTitleTemplates: { member: '{name}' },
}

/**
 * Writes the reference. Links that lead nowhere, and types that are used but not exported, are errors.
 *
 * @param {Map<string, string>} [entries] the declarations by the name that users import
 * @param {string} [out] where to write it
 * @param {string} [tsconfig]
 */
export async function writeApi(
  entries = entryPoints(),
  out = apiFolder,
  tsconfig = 'site/tsconfig.api.json',
) {
  const app = await Application.bootstrapWithPlugins({
    name: 'API',
    entryPoints: [...entries.values()].map((file) => resolve(root, file)),
    tsconfig: resolve(root, tsconfig),
    plugin: ['typedoc-plugin-markdown'],
    out: resolve(root, out),
    logLevel: 'Warn',
    readme: 'none',
    disableSources: true,
    // What every Error inherits.
    excludeExternals: true,
    intentionallyNotExported: clientShapes,
    validation: { notExported: true, invalidLink: true, invalidPath: true, rewrittenLink: true },
    ...ofPlugin,
  })
  app.renderer.on(MarkdownPageEvent.END, (page) => {
    page.contents = plainDefaults(page.contents ?? '')
    for (const name of entries.keys()) {
      // typedoc makes a folder's name of a module's.
      const folder = moduleFolder(name)
      page.contents = page.contents.replace(new RegExp(`^# ${folder}$`, 'm'), `# ${name}`)
      page.contents = page.contents.replace(
        `[${folder}](${folder}/index.md)`,
        `[\`${name}\`](${folder}/index.md)`,
      )
    }
  })
  const points = app.getEntryPoints() ?? []
  const byFile = new Map([...entries].map(([name, file]) => [resolve(root, file), name]))
  for (const point of points) {
    const name = byFile.get(resolve(point.sourceFile.fileName))
    if (name) point.displayName = moduleFolder(name)
  }
  const project = app.converter.convert(points)
  app.validate(project)
  await app.generateOutputs(project)
  if (app.logger.hasErrors() || app.logger.hasWarnings()) {
    throw new PlainError('typedoc has found mistakes in the declarations')
  }
}

/**
 * A default is one line, and often words, for which typedoc makes a heading and a block of code.
 *
 * @param {string} text
 */
function plainDefaults(text) {
  return text.replaceAll(/^#+ Default\n\n```ts\n(.+)\n```$/gm, (_, value) => {
    const code = /^(?:'[^']*'|[\d_.]+n?|true|false|null|undefined|\[\])$/.test(value)
    return `**Default:** ${code ? `\`${value}\`` : value}`
  })
}
