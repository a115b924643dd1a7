/** Errors name the section of the documentation that explains them, and the page has a section for each. */
import * as fencelock from 'fencelock'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'

import { anchorOf, headingsOf } from '../fixtures/examples/markdown'
import { helpFor } from '../fixtures/locks'
import { root } from '../fixtures/temp'

const page = 'docs/reference/errors.md'
const text = readFileSync(join(root, page), 'utf8')
/** As the declarations have them. */
const codes = [
  ...readFileSync(join(root, 'index.d.ts'), 'utf8')
    .match(/export type LockErrorCode =\n((?: +\| '\w+'\n)+)/)![1]!
    .matchAll(/'(\w+)'/g),
].map(([, code]) => code!)
const classes = Object.entries(fencelock)
  .filter(([name]) => name.endsWith('Error') && name !== 'LockError')
  .map(([name, Class]) => [name, Class as typeof fencelock.ClosedError] as const)

describe('docs/reference/errors.md', () => {
  it('has a section for each code, and none without a code', () => {
    expect(codes).toHaveLength(classes.length)
    const others = new Set(['Errors', 'Process warnings', 'When the addon does not load'])
    const sections = headingsOf(page).filter((heading) => !others.has(heading))
    expect(sections.map((heading) => `${page}#${anchorOf(heading)}`).toSorted()).toEqual(
      [...codes, 'INVALID_OPTION'].map(helpFor).toSorted(),
    )
  })

  it('has headings whose anchors do not depend on who makes them', () => {
    // Sites turn punctuation and underscores into hyphens; GitHub removes the one, and keeps the other.
    for (const heading of headingsOf(page)) expect(heading).toMatch(/^[A-Z][a-z ]*$/)
  })

  it('names every process warning', () => {
    const code = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.js'))
      .map((name) => readFileSync(join(root, 'lib', name), 'utf8'))
      .join('')
    const warnings = new Set(code.match(/(?<=')FENCELOCK_\w+(?=',\n)/g))
    expect(warnings.size).toBeGreaterThan(3)
    const table = text.slice(text.indexOf('## Process warnings'))
    expect([...table.matchAll(/^\| `(FENCELOCK_\w+)`/gm)].map(([, name]) => name!).toSorted()).toEqual(
      [...warnings].map(String).toSorted(),
    )
  })
})

describe('the help of an error', () => {
  it.each(classes)('of the class %s leads to its section', (name, Class) => {
    const error = new Class('a message')
    expect(error.help).toBe(helpFor(error.code))
    const heading = headingsOf(page).find((each) => error.help === `${page}#${anchorOf(each)}`)!
    expect(text).toContain(`## ${heading}\n\n\`${error.code}\`, \`${name}\`:`)
  })

  it('is a file of the package', () => {
    const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] }
    const { help } = new fencelock.LockHeldError('held')
    expect(files.filter((entry) => entry.endsWith('/') && help.startsWith(entry))).toHaveLength(1)
  })

  it('is printed, copied and sent with the error, and cannot be replaced', () => {
    const error = new fencelock.LockHeldError('held', { help: 'elsewhere' } as object)
    const help = 'docs/reference/errors.md#lock-held'
    expect(error.help).toBe(help)
    expect(inspect(error)).toContain(help)
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ help, code: 'LOCK_HELD' })
    expect(Object.assign({}, error)).toMatchObject({ help, code: 'LOCK_HELD' })
    // Of an error with a name of its own it takes the message; other properties are not its part.
    expect(structuredClone(error)).toMatchObject({ message: 'held' })
  })

  it('is that of invalid options, too', () => {
    const error = (() => {
      try {
        return new fencelock.LockManager({ prefx: '' } as object)
      } catch (reason) {
        return reason
      }
    })()
    expect(error).toMatchObject({ code: 'INVALID_OPTION', help: helpFor('INVALID_OPTION') })
  })
})
