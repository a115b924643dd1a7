/**
 * Which JavaScript and TypeScript files import which: by `import`, `export … from`, `import()` and
 * `require()`. Imports of types do not count: they are erased.
 */
import { readFileSync, statSync } from 'node:fs'
import { join, posix } from 'node:path'
import { parseSync } from 'vite'

/** @typedef {import('./graph.mjs').Graph} Graph */

/** What may be left out at the end of a path. */
const endings = ['', '.ts', '.mjs', '.js', '/index.ts', '/index.mjs', '/index.js']

/**
 * @param {string} root
 * @param {string[]} files relative to the root, with `/`
 * @returns {Graph}
 */
export function readJavaScript(root, files) {
  const known = new Set(files)
  return new Map(
    files.map((file) => {
      const specifiers = importsOf(file, readFileSync(join(root, file), 'utf8'))
      const targets = specifiers.flatMap((specifier) => resolve(root, file, specifier) ?? [])
      return [file, new Set(targets.filter((target) => known.has(target) && target !== file))]
    }),
  )
}

/**
 * @param {string} root
 * @param {string} file
 * @param {string} specifier
 */
function resolve(root, file, specifier) {
  if (!specifier.startsWith('.')) return undefined
  const path = posix.join(posix.dirname(file), specifier)
  return endings
    .map((ending) => path + ending)
    .find((each) => statSync(join(root, each), { throwIfNoEntry: false })?.isFile())
}

/** @param {string} file @param {string} text @returns {string[]} */
function importsOf(file, text) {
  const { program, module, errors } = parseSync(file, text)
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]?.message}`)
  const { staticImports, staticExports } = module
  const fromImports = staticImports
    .filter(({ entries }) => entries.length === 0 || entries.some(({ isType }) => !isType))
    .map(({ moduleRequest }) => moduleRequest.value)
  const fromExports = staticExports
    .flatMap(({ entries }) => entries)
    .flatMap(({ isType, moduleRequest }) => (moduleRequest && !isType ? [moduleRequest.value] : []))
  return [...fromImports, ...fromExports, ...calls(program)]
}

/**
 * The literal arguments of `require()` and `import()`.
 *
 * @param {unknown} node of the syntax tree
 * @returns {string[]}
 */
function calls(node) {
  if (typeof node !== 'object' || node === null) return []
  const { type, callee, arguments: args, source } = /** @type {Record<string, any>} */ (node)
  const argument =
    type === 'ImportExpression'
      ? source
      : type === 'CallExpression' && callee.name === 'require'
        ? args[0]
        : undefined
  const own = typeof argument?.value === 'string' ? [argument.value] : []
  return [...own, ...Object.values(node).flatMap(calls)]
}
