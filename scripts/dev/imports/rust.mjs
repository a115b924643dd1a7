/**
 * Which Rust files of a crate import which. Read from the sources, because the question is about files, and
 * the compiler knows modules only.
 *
 * A file imports another one when it names an item that is defined there, in a `use` or in a path, also
 * through a re-export. So `use super::X` imports the parent's file when X is defined in it, and another one
 * when the parent re-exports X. These do not count: `mod child;`, a re-export (`pub use`) of a name that the
 * file itself does not use, methods, and code for tests (`#[cfg(test)]`).
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'

import { findTestCode, tokenize } from './rust-tokens.mjs'

/** @typedef {import('./graph.mjs').Graph} Graph */
/** @typedef {import('./rust-tokens.mjs').Token} Token */

/**
 * @typedef {object} Module
 * @property {string} file relative to the root
 * @property {Module | undefined} parent
 * @property {Map<string, Module>} children
 * @property {Map<string, string[]>} aliases what `use` declarations call names, by these names
 * @property {{ path: string[], exported: boolean }[]} globs paths whose names are all imported
 * @property {Set<string>} items that it defines
 * @property {{ path: string[], alias: string, exported: boolean }[]} uses
 * @property {string[][]} paths in the rest of its code
 * @property {Map<string, number>} words how often each name occurs
 */

/** A module, or the file of an item. @typedef {Module | { item: string }} Target */

const definitions = new Set(['fn', 'struct', 'enum', 'union', 'trait', 'type', 'const', 'static'])

/**
 * @param {string} root
 * @param {string} main the crate's lib.rs, relative to the root
 * @returns {Graph}
 */
export function readRust(root, main) {
  /** @type {Graph} */
  const graph = new Map()
  const crate = readModule(root, main, undefined)
  /** @param {Module} module */
  const visit = (module) => {
    const targets = graph.get(module.file) ?? new Set()
    graph.set(module.file, targets)
    const uses = module.uses.filter(({ alias, exported }) => !exported || (module.words.get(alias) ?? 0) > 1)
    const globs = module.globs.filter(({ exported }) => !exported)
    const files = [
      ...[...uses.map(({ path }) => path), ...module.paths].map((path) =>
        itemFile(resolve(crate, module, path)),
      ),
      ...globs.map(({ path }) => anyFile(resolve(crate, module, path))),
    ]
    for (const file of files) if (file !== undefined && file !== module.file) targets.add(file)
    for (const child of module.children.values()) visit(child)
  }
  visit(crate)
  return graph
}

/**
 * @param {string} root
 * @param {string} file
 * @param {Module | undefined} parent
 * @returns {Module}
 */
function readModule(root, file, parent) {
  const text = readFileSync(join(root, file), 'utf8')
  const module = emptyModule(file, parent)
  const tokens = tokenize(text)
  const skipped = findTestCode(tokens)
  const code = tokens.filter((_, index) => !skipped.has(index))
  // Children of `a.rs` are in the folder `a`, those of `mod.rs` and `lib.rs` next to it.
  const folder = /(^|\/)(mod|lib|main)\.rs$/.test(file) ? dirname(file) : file.replace(/\.rs$/, '')
  readItems({ root, folder, text, code }, module, 0)
  return module
}

/** @param {string} file @param {Module | undefined} parent @returns {Module} */
function emptyModule(file, parent) {
  return {
    file,
    parent,
    children: new Map(),
    aliases: new Map(),
    globs: [],
    items: new Set(),
    uses: [],
    paths: [],
    words: new Map(),
  }
}

/** @typedef {{ root: string, folder: string, text: string, code: Token[] }} Source */

/**
 * Reads a module's tokens up to its closing brace.
 *
 * @param {Source} source
 * @param {Module} module
 * @param {number} begin index of the first token
 * @returns {number} the index after the last one
 */
function readItems(source, module, begin) {
  const { code } = source
  let depth = 0
  let at = begin
  const word = (/** @type {number} */ index) => code[index]?.text ?? ''
  while (at < code.length) {
    const text = word(at)
    if (text === '{') depth++
    if (text === '}' && depth-- === 0) return at + 1
    if (text === 'mod' && /^\w/.test(word(at + 1)) && /^[;{]$/.test(word(at + 2))) {
      at = readChild(source, module, at)
    } else if (text === 'use' && word(at - 1) !== '::') {
      const exported = /^(pub|\))$/.test(word(at - 1))
      at = readUse(code, at + 1, [], (path, alias) => addUse(module, path, alias, exported))
    } else if (/^[A-Za-z_$]/.test(text) && word(at - 1) !== '::') {
      if (depth === 0 && definitions.has(text)) module.items.add(word(at + 1))
      if (text === 'macro_rules') module.items.add(word(at + 2))
      const path = [text]
      for (; word(at + 1) === '::' && /^\w/.test(word(at + 2)); at += 2) path.push(word(at + 2))
      for (const name of path) module.words.set(name, (module.words.get(name) ?? 0) + 1)
      if (path.length > 1) module.paths.push(path)
      at++
    } else {
      at++
    }
  }
  return at
}

/**
 * Reads `mod name;` or `mod name { … }`.
 *
 * @param {Source} source
 * @param {Module} module
 * @param {number} at
 * @returns {number} the index after it
 */
function readChild(source, module, at) {
  const { root, folder, text, code } = source
  const name = code[at + 1]?.text ?? ''
  if (code[at + 2]?.text === '{') {
    const inline = emptyModule(module.file, module)
    module.children.set(name, inline)
    return readItems({ ...source, folder: join(folder, name) }, inline, at + 3)
  }
  const path = /#\[path = "([^"]+)"\]\s*(?:pub(?:\([^)]*\))?\s+)?$/.exec(text.slice(0, code[at]?.start))?.[1]
  const places = path
    ? [join(dirname(module.file), path)]
    : [join(folder, `${name}.rs`), join(folder, name, 'mod.rs')]
  const file = places.find((each) => existsSync(join(root, each)))
  if (file !== undefined) module.children.set(name, readModule(root, file.split(sep).join('/'), module))
  return at + 3
}

/**
 * Reads the tree of a `use` declaration.
 *
 * @param {Token[]} code
 * @param {number} begin
 * @param {string[]} prefix
 * @param {(path: string[], alias: string) => void} add
 * @returns {number} the index after the tree
 */
function readUse(code, begin, prefix, add) {
  const path = [...prefix]
  let at = begin
  const word = () => code[at]?.text ?? ';'
  for (; ; at++) {
    if (word() === '{') {
      do at = readUse(code, at + 1, path, add)
      while (word() === ',')
      return at + 1
    }
    if (word() === '::') continue
    if (!/^[\w$*]/.test(word()) || word() === 'as') break
    path.push(word())
  }
  const alias = word() === 'as' ? (code[at + 1]?.text ?? '') : undefined
  if (alias !== undefined) at += 2
  // `{self}` is the module itself.
  if (path.at(-1) === 'self' && path.length > 1) path.pop()
  if (path.length > prefix.length || alias !== undefined || path.length > 1)
    add(path, alias ?? path.at(-1) ?? '')
  return at
}

/** @param {Module} module @param {string[]} path @param {string} alias @param {boolean} exported */
function addUse(module, path, alias, exported) {
  if (path.at(-1) === '*') {
    module.globs.push({ path: path.slice(0, -1), exported })
  } else {
    module.aliases.set(alias, path)
    module.uses.push({ path, alias, exported })
    module.words.set(alias, (module.words.get(alias) ?? 0) + 1)
  }
}

/**
 * The file of an item. A module is imported only when an item in it is named.
 *
 * @param {Target | undefined} target
 */
function itemFile(target) {
  return target && 'item' in target ? target.item : undefined
}

/** The file of an item or a module. @param {Target | undefined} target */
function anyFile(target) {
  return target && ('item' in target ? target.item : target.file)
}

/**
 * What a path names; undefined if that is outside the crate.
 *
 * @param {Module} crate
 * @param {Module} from
 * @param {string[]} path
 * @param {Set<string>} [seen] aliases that are being resolved
 * @returns {Target | undefined}
 */
function resolve(crate, from, path, seen = new Set()) {
  const [first = '', ...rest] = path
  /** @type {Target | undefined} */
  let here
  if (first === 'crate' || first === '$crate') here = crate
  else if (first === 'self') here = from
  else if (first === 'super') here = from.parent
  else here = member(crate, from, first, seen)
  for (const name of rest) {
    if (here === undefined || 'item' in here) return here
    if (name === 'super') here = here.parent
    else here = member(crate, here, name, seen) ?? { item: here.file }
  }
  return here
}

/**
 * What a name means inside of a module; undefined when it is not known there.
 *
 * @param {Module} crate
 * @param {Module} module
 * @param {string} name
 * @param {Set<string>} seen
 * @returns {Target | undefined}
 */
function member(crate, module, name, seen) {
  const child = module.children.get(name)
  if (child) return child
  if (module.items.has(name)) return { item: module.file }
  const key = `${module.file} ${name}`
  if (seen.has(key)) return undefined
  const inner = new Set(seen).add(key)
  const alias = module.aliases.get(name)
  if (alias) return resolve(crate, module, alias, inner)
  for (const { path } of module.globs) {
    const target = resolve(crate, module, path, inner)
    if (target && !('item' in target)) {
      const found = member(crate, target, name, inner)
      if (found) return found
    }
  }
  return undefined
}
