/** How the addon is found. Each case is a project with its own packages. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

import { hostName, platforms } from '../../scripts/build/platforms.mjs'
import { runCode } from '../fixtures/processes/processes'
import { onBun } from '../fixtures/processes/runtimes'
import { root } from '../fixtures/temp'
import { built, host, version, addon, project, install, outdated, load } from './support'

/** What every list of platforms must contain. */
const all = platforms.map(({ name }) => name).toSorted()

it('the loader knows exactly the platforms that have a package', () => {
  const code = readFileSync(join(root, 'lib/native/load.js'), 'utf8')
  const cases = [...code.matchAll(/case '([\w-]+)':\n +return require\('@fencelock\/binding-([\w-]+)'\)/g)]
  expect(cases.map(([, name]) => name)).toEqual(all)
  expect(cases.map(([, , required]) => required)).toEqual(all)
  const errors = readFileSync(join(root, 'lib/native/load-errors.js'), 'utf8')
  const targets = /const targets = \[([^\]]*)\]/.exec(errors)?.[1] ?? ''
  expect([...targets.matchAll(/'([\w-]+)'/g)].map(([, name]) => name)).toEqual(all)
})

it('a build has the name that the loader looks for', () => {
  expect(hostName()).toBe(host)
})

describe('the loaded addon is', () => {
  it('that of the platform package', async () => {
    const folder = project()
    install(folder, host, addon())
    expect(await load(folder)).toBe(version)
  })

  it('the one next to the package, where it was built', async () => {
    const folder = project()
    writeFileSync(join(folder, 'node_modules', 'fencelock', built), addon())
    install(folder, host, outdated)
    expect(await load(folder)).toBe(version)
  })

  it('the one that FENCELOCK_NATIVE_PATH names, absolute or from the working directory', async () => {
    const folder = project()
    install(folder, host, outdated)
    mkdirSync(join(folder, 'mine'))
    writeFileSync(join(folder, 'mine', 'own.node'), addon())
    expect(await load(folder, { path: join(folder, 'mine', 'own.node') })).toBe(version)
    expect(await load(folder, { path: 'mine/own.node' })).toBe(version)
    // Empty, which is how many configuration files unset a variable.
    expect(await load(folder, { path: '' })).toMatchObject({ code: 'ADDON_WRONG_VERSION' })
  })

  it.runIf(process.platform === 'linux')('that for the libc of this process', async () => {
    const folder = project()
    const pretend = (name: string, text: string): string => {
      writeFileSync(join(folder, name), text)
      return `Object.defineProperty(process, 'execPath', { value: ${JSON.stringify(join(folder, name))} })`
    }
    const arch = `/linux-${process.arch}`
    const musl = await load(folder, { before: pretend('a', '\u007FELF…\0/lib/ld-musl-x86_64.so.1\0') })
    expect(musl).toMatchObject({ message: expect.stringContaining(`${arch.slice(1)}-musl`) })
    const gnu = await load(folder, {
      before: pretend('b', '\u007FELF…\0/nix/store/g/lib/ld-linux-x86-64.so.2\0'),
    })
    expect(gnu).toMatchObject({ message: expect.stringContaining(`${arch.slice(1)}-gnu`) })
    // The program does not state it: the runtime's report does.
    const own = await load(folder, { before: pretend('c', 'nothing') })
    expect(own).toMatchObject({ message: expect.stringContaining(host) })
  })

  it('loaded with less CPU time than the start of the runtime takes', async () => {
    const folder = project()
    install(folder, host, addon())
    const runs: [number, number][] = []
    for (let round = 0; round < 10; round++) {
      const { stdout } = await runCode(
        `const { createRequire } = await import('node:module')
         const require = createRequire(${JSON.stringify(join(folder, 'x.js'))})
         const now = () => { const { user, system } = process.cpuUsage(); return user + system }
         const start = now()
         require('fencelock')
         say([start, now() - start])`,
      )
      runs.push(JSON.parse(stdout) as [number, number])
    }
    const least = (index: 0 | 1): number => Math.min(...runs.map((run) => run[index]))
    // Bun starts several times as fast as Node. There, a module like node:net, loaded in vain, is too much.
    expect(least(1)).toBeLessThan(least(0) * (onBun ? 2.3 : 1))
  })
})
