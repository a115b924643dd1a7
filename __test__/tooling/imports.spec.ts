/** What `npm run lint:imports` finds. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { circles, upwardImports } from '../../scripts/dev/imports/graph.mjs'
import { readJavaScript } from '../../scripts/dev/imports/javascript.mjs'
import { readRust } from '../../scripts/dev/imports/rust.mjs'
import { tempDir } from '../fixtures/temp'

function write(files: Record<string, string>): string {
  const folder = tempDir()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

function javascript(files: Record<string, string>): Map<string, Set<string>> {
  return readJavaScript(write(files), Object.keys(files))
}

function rust(files: Record<string, string>): Map<string, Set<string>> {
  return readRust(write(files), 'lib.rs')
}

const found = (graph: Map<string, Set<string>>): string[][] => circles(graph).map(({ circle }) => circle)

describe('graph', () => {
  it('finds the shortest circle of a group', () => {
    const graph = new Map([
      ['a', new Set(['b'])],
      ['b', new Set(['c', 'd'])],
      ['c', new Set(['a'])],
      ['d', new Set(['b', 'e'])],
      ['e', new Set<string>()],
    ])
    expect(circles(graph)).toEqual([
      {
        files: expect.toSatisfy((files: string[]) => files.toSorted().join('') === 'abcd'),
        circle: ['b', 'd'],
      },
    ])
  })

  it('finds imports from a higher layer; the longest prefix decides', () => {
    const graph = new Map([
      ['lib/low.js', new Set(['lib/api/high.js', 'other.js'])],
      ['lib/api/high.js', new Set(['lib/low.js'])],
      ['other.js', new Set(['lib/low.js'])],
    ])
    expect(upwardImports(graph, [['lib/'], ['lib/api/']])).toEqual([['lib/low.js', 'lib/api/high.js']])
    expect(upwardImports(graph, [['lib/api/'], ['lib/']])).toEqual([['lib/api/high.js', 'lib/low.js']])
  })
})

describe('JavaScript', () => {
  it.each([
    ['import', { 'a.mjs': "import { b } from './b.mjs'", 'b.mjs': "import './a.mjs'" }],
    ['export', { 'a.ts': "export { b } from './b'", 'b.ts': "export * from './a'" }],
    ['import()', { 'a.mjs': "await import('./b.mjs')", 'b.mjs': "import a from './a.mjs'" }],
    [
      'require()',
      { 'a.js': "const { b } = require('./b.js')", 'b.js': "exports.a = () => require('./a').a" },
    ],
    ['a folder', { 'a/index.ts': "import '../b'", 'b.ts': "import './a'" }],
  ])('finds a circle of %s', (_, files) => {
    expect(found(javascript(files as Record<string, string>))).toEqual([Object.keys(files)])
  })

  it('leaves out types, comments, strings and packages', () => {
    const graph = javascript({
      'a.ts': "import type { B } from './b'\nimport { type C } from './b'\nexport type { D } from './b'",
      'b.ts': "import './a'\n// import './c'\nconst text = `import './c'`",
      'c.mjs': "/** @typedef {import('./b').B} B */\nimport 'b'",
    })
    expect([...graph]).toEqual([
      ['a.ts', new Set()],
      ['b.ts', new Set(['a.ts'])],
      ['c.mjs', new Set()],
    ])
  })
})

describe('Rust', () => {
  it.each([
    ['use', 'use crate::b::B; pub struct A(B);', 'use crate::a::{self, A}; pub struct B(a::A, A);'],
    ['paths', 'pub fn a() { crate::b::b() }', 'pub fn b() { super::a::a() }'],
    [
      'renamed names',
      'use crate::b::B as Other; pub struct A;',
      'use super::a as first; pub struct B(first::A);',
    ],
    ['globs', 'use crate::b::*; pub struct A;', 'pub struct B; fn f(_: crate::a::A) {}'],
    ['macros', 'macro_rules! a { () => { $crate::b::B } }', 'pub struct B; fn f() { crate::a::a!() }'],
  ])('finds a circle of %s', (_, a, b) => {
    const graph = rust({ 'lib.rs': 'mod a; mod b;', 'a.rs': a, 'b.rs': b })
    expect(found(graph)).toEqual([['a.rs', 'b.rs']])
    expect(graph.get('lib.rs')).toEqual(new Set())
  })

  it('finds a circle between a parent that uses its child and a child that uses an item of the parent', () => {
    const child = 'use super::Shared; pub fn work(_: Shared) {}'
    expect(
      found(
        rust({
          'lib.rs': 'mod a;',
          'a/mod.rs': 'mod c; pub struct Shared; fn f() { c::work(Shared) }',
          'a/c.rs': child,
        }),
      ),
    ).toEqual([['a/c.rs', 'a/mod.rs']])
  })

  it('declaring or re-exporting a child is no import', () => {
    const child = 'use super::Shared; pub fn work(_: Shared) {}'
    const graph = rust({
      'lib.rs': 'mod a;',
      'a.rs': 'mod c; pub use c::*; pub use c::work; pub struct Shared;',
      'a/c.rs': child,
    })
    expect(graph.get('a.rs')).toEqual(new Set())
    expect(graph.get('a/c.rs')).toEqual(new Set(['a.rs']))
  })

  it('follows re-exports and the imports of parents to the file that defines the item', () => {
    const graph = rust({
      'lib.rs': 'mod a; mod b;',
      'a/mod.rs': 'mod c; mod d; pub use d::D; use crate::b::B;',
      'a/c.rs': 'use super::{B, D}; struct C(B, D);',
      'a/d.rs': 'pub struct D;',
      'b.rs': 'pub struct B;',
    })
    expect(graph.get('a/c.rs')).toEqual(new Set(['b.rs', 'a/d.rs']))
  })

  it('leaves out tests, comments, strings, attributes and other crates', () => {
    const graph = rust({
      'lib.rs': 'mod a; mod b; #[cfg(test)] mod t;',
      'a.rs': `// crate::b::B
        /* crate::b::B */
        #[doc = "crate::b::B"]
        #[allow(clippy::all)]
        const TEXT: &str = r#"crate::b::B"#;
        const QUOTE: char = '"';
        fn f<'b>(_: &'b str) -> redis::Value { tokio::b::B::new() }
        #[cfg(test)]
        #[path = "t.rs"]
        mod tests;
        #[cfg(test)]
        mod more { use crate::b::B; }
        #[cfg(test)]
        use crate::b::B;
        pub struct A;`,
      'b.rs': 'use crate::a::A; pub struct B(A);',
      't.rs': 'use crate::b::B;',
    })
    expect([...graph]).toEqual([
      ['lib.rs', new Set()],
      ['a.rs', new Set()],
      ['b.rs', new Set(['a.rs'])],
    ])
  })
})
