/** Two copies of the package in one process, as when a package manager installs two versions. */
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { unique } from '../fixtures/locks'
import { keepsLocks, lastingLocks, runCode, startCode } from '../fixtures/processes/processes'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { root, tempDir } from '../fixtures/temp'

/** A copy of the published files, with the addon. Returns the path of the module. */
function copy(): string {
  const folder = join(tempDir(), 'node_modules', 'fencelock')
  mkdirSync(folder, { recursive: true })
  for (const name of ['index.js', 'package.json', addon]) copyFileSync(join(root, name), join(folder, name))
  cpSync(join(root, 'lib'), join(folder, 'lib'), { recursive: true })
  return join(folder, 'index.js')
}

/** A copy that claims to be another version, with its platform package next to it. */
function otherVersion(): string {
  const path = copy()
  const folder = dirname(path)
  const version = '99.0.0'
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as object
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...manifest, version }))
  const binding = join(folder, 'node_modules', '@fencelock', `binding-${addon.split('.')[1] ?? ''}`)
  mkdirSync(binding, { recursive: true })
  renameSync(join(folder, addon), join(binding, addon))
  writeFileSync(
    join(binding, 'index.js'),
    `module.exports = { ...require('./${addon}'), version: () => '${version}' }`,
  )
  return path
}

const addon = readdirSync(root).find((name) => name.endsWith('.node')) ?? 'none'

let redis: RedisServer
let copies: [string, string]
beforeAll(async () => {
  redis = await startRedis()
})

/** Loads both copies as `one` and `two`. */
const load = (): string => `
  const { createRequire } = await import('node:module')
  const require = createRequire(${JSON.stringify(join(root, 'x.js'))})
  const [one, two] = ${JSON.stringify(copies)}.map((path) => require(path))
  const redis = { url: ${JSON.stringify(redis.url)}, replicas: 0 }
`

/** Whether each of these resources is held, as a separate process with the package itself sees it. */
async function heldIn(path: string, ...resources: string[]): Promise<unknown> {
  const ending = await runCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager({ local: ${JSON.stringify(path)} })
     const held = []
     for (const name of ${JSON.stringify(resources)}) held.push((await locks.inspect(name)) !== null)
     await (await locks.acquireLocal('something else')).release()
     await locks.close({ drainMs: 0 }) // it may take itself for the last one
     say(held)`,
  )
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  return JSON.parse(ending.stdout)
}

describe.each([
  { of: 'one version', second: copy },
  { of: 'two versions', second: otherVersion },
])('two copies of $of in one process', ({ second }) => {
  beforeAll(() => {
    copies = [copy(), second()]
  })

  it('recognize each other’s errors, and share Redis', async () => {
    const ending = await runCode(
      `${load()}
       const [a, b] = [new one.LockManager({ redis }), new two.LockManager({ redis })]
       const name = ${JSON.stringify(unique())}
       const lock = await a.acquireStrong(name)
       const error = await b.acquireStrong(name).catch((error) => error)
       const released = await lock.release()
       const next = await b.acquireStrong(name)
       await a.close({ drainMs: 0 })
       const closed = await a.acquireStrong(name).catch((error) => error)
       say({
         apart: one.LockManager !== two.LockManager && one.LockHeldError !== two.LockHeldError,
         code: error.code,
         held: [error instanceof one.LockHeldError, error instanceof two.LockHeldError],
         base: [error instanceof one.LockError, error instanceof two.LockError],
         other: [error instanceof one.ClosedError, error instanceof two.LockLostError],
         closed: [closed instanceof one.ClosedError, closed instanceof two.ClosedError],
         released,
         risen: next.token > lock.token,
         still: next.held && (await next.release()),
       })
       await b.close({ drainMs: 0 })`,
    )
    expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(JSON.parse(ending.stdout)).toEqual({
      apart: true,
      code: 'LOCK_HELD',
      held: [true, true],
      base: [true, true],
      other: [false, false],
      closed: [true, true],
      released: true,
      risen: true,
      still: true,
    })
  })

  it('do not share a lock file: the second is refused without harm to the first', async () => {
    const path = join(tempDir(), 'locks.sqlite')
    const script = startCode(
      `${load()}
       const local = ${JSON.stringify(path)}
       const a = new one.LockManager({ local })
       const held = [await a.acquireLocal('before', { ttlMs: 60_000 })]
       const commands = {
         async refuse() {
           const errors = []
           for (let round = 0; round < 3; round++) {
             const b = new two.LockManager({ local })
             errors.push(await b.acquireLocal('before').catch((error) => error))
             errors.push(await b.inspect('before').catch((error) => error))
             try { errors.push(b.tryAcquireLocalSync('free')) } catch (error) { errors.push(error) }
             await b.close({ drainMs: 0 })
           }
           return errors.map((error) => [error.code, error instanceof one.UnsupportedError, /copy/.test(error.message)].join())
         },
         async acquire(name) {
           held.push(await a.acquireLocal(name, { ttlMs: 60_000 }))
           await held[0].extend()
           return held.every((lock) => lock.held)
         },
         async swap() {
           await a.close({ drainMs: 0 })
           const b = new two.LockManager({ local })
           const lock = await b.acquireLocal('before')
           const refused = await new one.LockManager({ local }).acquireLocal('free').catch((error) => error.code)
           await b.close({ drainMs: 0 })
           return { risen: lock.token > held[0].token, refused }
         },
       }
       say('ready')
       for await (const [command, ...args] of hear()) say(await commands[command](...args))`,
    )
    const ask = (...command: string[]): Promise<unknown> => {
      script.tell(command)
      return script.next()
    }
    expect(await script.next()).toBe('ready')
    const before = await lastingLocks(script.pid)
    if (process.platform === 'linux') expect(before).not.toEqual([])
    expect(await ask('refuse')).toEqual(Array.from({ length: 9 }, () => 'UNSUPPORTED,true,true'))
    // Had the first copy lost its locks on the file, another process could take itself for the last one to
    // close it, and remove the log together with what is committed to it next.
    expect(await keepsLocks(script.pid, before)).toBe(true)
    expect(await heldIn(path, 'before')).toEqual([true])
    expect(await ask('acquire', 'after')).toBe(true)
    expect(await heldIn(path, 'before', 'after', 'free')).toEqual([true, true, false])
    expect(await ask('acquire', 'later')).toBe(true)
    expect(await heldIn(path, 'before', 'after', 'later')).toEqual([true, true, true])
    // Once the first has closed the file, the second may use it.
    expect(await ask('swap')).toEqual({ risen: true, refused: 'UNSUPPORTED' })
    script.hangUp()
    expect(await script.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  it('work in workers at the same time', async () => {
    const dir = tempDir()
    const ending = await runCode(
      `${load()}
       const { Worker } = await import('node:worker_threads')
       const dir = ${JSON.stringify(dir)}
       const modules = ${JSON.stringify(copies)}
       const run = (index, file) => new Promise((resolve, reject) => {
         const workerData = { module: modules[index], action: 'attempt', options: { redis, local: dir + file }, resource: 'x' }
         new Worker(${JSON.stringify(join(root, '__test__/fixtures/processes/worker.cjs'))}, { workerData }).on('message', resolve).on('error', reject)
       })
       const [a, b] = [new one.LockManager({ redis, local: dir + '/a' }), new two.LockManager({ local: dir + '/b' })]
       const strong = await a.acquireStrong('x', { ttlMs: 60_000 })
       const locals = [await a.acquireLocal('x', { ttlMs: 60_000 }), await b.acquireLocal('x', { ttlMs: 60_000 })]
       // Each copy with its own file and with that of the other, at the same time.
       say(await Promise.all([run(0, '/a'), run(1, '/b'), run(1, '/a'), run(0, '/b')]))
       for (const lock of locals) await lock.extend()
       say([await strong.release(), ...await Promise.all(locals.map((lock) => lock.release()))])
       await Promise.all([a.close({ drainMs: 0 }), b.close({ drainMs: 0 })])`,
    )
    expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
    const own = ['LOCK_HELD', 'LOCK_HELD', true]
    const foreign = ['LOCK_HELD', 'UNSUPPORTED', 'UNSUPPORTED']
    expect(
      ending.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      [own, own, foreign, foreign],
      [true, true, true],
    ])
    expect(readdirSync(dir).toSorted()).toEqual(['a', 'b'])
  })
})
