/** The examples in the documents of channels and of OpenTelemetry print what the documents say. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'

import { allSnippets, runSnippet } from '../fixtures/examples/snippets'
import { root } from '../fixtures/temp'

const requirePackage = createRequire(join(root, '__test__/projects/otel/package.json'))
const packages = ['api', 'sdk-metrics', 'sdk-trace-base'].map((name) => `@opentelemetry/${name}`)

it.each(['channels', 'otel'])('the example of %s', async (needs) => {
  const snippet = allSnippets().find((each) => each.needs.includes(needs))!
  const text = readFileSync(join(root, snippet.name.split(':')[0]!), 'utf8')
  const after = text.slice(text.indexOf(snippet.code) + snippet.code.length)
  const [, printed = ''] = /^\s*```\s+It prints:\s+```text\n(.*?)```/s.exec(after)!
  const replace = Object.fromEntries(
    packages.map((name) => [
      `from '${name}'`,
      `from ${JSON.stringify(pathToFileURL(requirePackage.resolve(name)).href)}`,
    ]),
  )
  const { code, stdout, stderr } = await runSnippet(snippet, { replace })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  // Bun prints an array with double quotes.
  expect(stdout.replaceAll('"', "'")).toBe(printed)
})
