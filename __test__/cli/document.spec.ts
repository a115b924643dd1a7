/** The blocks of docs/guide/command-line.md do what they state, and it names every option and status. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { blocksOf } from '../fixtures/examples/markdown'
import { startChild } from '../fixtures/processes/children'
import { environment } from '../fixtures/processes/cli'
import { Script } from '../fixtures/processes/processes'
import { root, tempDir } from '../fixtures/temp'

const require = createRequire(import.meta.url)
const { COMMANDS } = require('../../cli/commands/index.js') as typeof import('../../cli/commands/index.js')
const { optionsOf } =
  require('../../cli/options/arguments.js') as typeof import('../../cli/options/arguments.js')
const { EXIT } = require('../../cli/exit-codes.js') as typeof import('../../cli/exit-codes.js')

const { tableOf } = require('../../cli/output/table.js') as typeof import('../../cli/output/table.js')

const page = 'docs/guide/command-line.md'
const blocks = [...blocksOf('README.md'), ...blocksOf(page)].filter(
  ({ mark }) => mark?.kind === 'run' && mark.words === 'shell',
)
const hasCurl = spawnSync('curl', ['--version']).status === 0

describe.skipIf(process.platform === 'win32')('docs/guide/command-line.md', () => {
  it.each(blocks.map((block) => [block.name, block.code] as const))('%s', async (_, code) => {
    if (code.includes('curl') && !hasCurl) return
    const folder = tempDir()
    const tokens: (string | undefined)[] = []
    const ledger = createServer((request, response) => {
      tokens.push(request.headers['fencing-token'] as string | undefined)
      response.end('ok\n')
    })
    await new Promise<void>((resolve) => ledger.listen(0, '127.0.0.1', resolve))
    onCleanup(() => ledger.close())
    const { port } = ledger.address() as { port: number }
    const bin = join(folder, 'bin')
    mkdirSync(bin)
    const program = join(bin, 'fencelock')
    const env = environment({ PATH: `${bin}:${process.env.PATH}`, LEDGER: `http://127.0.0.1:${port}` })
    writeFileSync(program, `#!/bin/sh\nexec ${env.FENCELOCK} "$@"\n`)
    chmodSync(program, 0o755)

    const shell = startChild('sh', ['-e', '-c', code.replaceAll('/tmp/', `${folder}/`)], {
      cwd: folder,
      env,
      detached: true,
    })
    shell.stdin?.end()
    const end = await new Script(shell, 30_000).ended
    expect(end).toMatchObject({ code: 0, signal: null })
    // A comment behind a line says what it prints.
    for (const [, promised = ''] of code.matchAll(/^(?!export).*\S {1,2}# (.+)$/gm)) {
      expect(end.stdout.split('\n')).toContain(promised)
    }
    if (code.includes('curl')) expect(tokens).toEqual([expect.stringMatching(/^\d{16}$/)])
  })

  const text = readFileSync(join(root, page), 'utf8')

  it('has a picture of the table that watch shows', () => {
    const svg = readFileSync(join(root, 'docs/images/watch.svg'), 'utf8')
    const words = tableOf([]).header.split(/ +/)
    expect(svg).toMatch(new RegExp(`>${words.join(' +')}<`))
  })

  it('has blocks that run', () => {
    expect(blocks.length).toBeGreaterThan(7)
  })

  it('names every command and every option', () => {
    const options = Object.values(COMMANDS).flatMap(({ load }) => Object.keys(optionsOf(load())))
    const missing = [...new Set(options)].filter((name) => !text.includes(`--${name}`) && name !== 'help')
    expect(missing).toEqual([])
    expect(Object.keys(COMMANDS).filter((name) => !text.includes(`fencelock ${name}`))).toEqual([])
  })

  it('names every variable', () => {
    const options = Object.values(COMMANDS).flatMap(({ load }) => Object.values(optionsOf(load())))
    const variables = options.flatMap(({ variable }) => variable ?? [])
    expect(variables.filter((name) => !text.includes(`\`${name}\``))).toEqual([])
  })

  it('has every status, as the help has', () => {
    const rows = new Set([...text.matchAll(/^\| (\d+) +\|/gm)].map(([, status]) => Number(status)))
    expect(Object.values(EXIT).filter((status) => status > 1 && !rows.has(status))).toEqual([])
    const inHelp = COMMANDS.run!.load().statuses.map(([status]) => status)
    expect(
      inHelp.filter(
        (status) => !new RegExp(`^\\| ${status.replace('+', String.raw`\+`)} +\\|`, 'm').test(text),
      ),
    ).toEqual([])
  })
})
