/**
 * What reaches the addon from JavaScript that lies: wrong types, arrays that change, polluted prototypes. In
 * processes of their own, because a defect may be a crash.
 */
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { runCode } from '../fixtures/processes/processes'
import { root, tempDir } from '../fixtures/temp'

/** A seeded generator of values, valid ones among them. */
const generator = (seed: number): string => `
  const { createRequire } = await import('node:module')
  const require = createRequire(${JSON.stringify(join(root, 'index.js'))})
  const { LockManager } = require('./index.js')
  const addon = require('./lib/native/load.js')
  const path = ${JSON.stringify(join(tempDir(), 'locks.sqlite'))}
  let state = ${seed}
  // mulberry32
  const random = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
  const pick = (list) => list[Math.floor(random() * list.length)]
  const doubles = (length, Buffer = ArrayBuffer) => {
    const array = new Float64Array(new Buffer(length * 8))
    for (let i = 0; i < length; i++) array[i] = pick([0, 1, -1, 2, 13, 0.5, 1e9, 2 ** 32, 2 ** 53, -Infinity, Infinity, NaN])
    return array
  }
  const detached = () => {
    const array = doubles(13)
    structuredClone(array.buffer, { transfer: [array.buffer] })
    return array
  }
  const lying = () => {
    let reads = 0
    return new Proxy(['a', 'b'], {
      get: (target, key) => (key === 'length' ? pick([0, 2, 1e6, -1, NaN, 2 ** 40]) + reads++ : key === '0' && reads > 2 ? 7 : target[key]),
    })
  }
  const hostile = () => Object.defineProperty([], '0', { get() { throw new RangeError('on purpose') }, enumerable: true })
  // Of the manager that is attacked, once there is one.
  let native
  const listing = () => native?.list(2, '')
  const values = [
    () => undefined, () => null, () => true, () => false, () => 0, () => -0, () => 1, () => -1, () => 1.5, () => NaN,
    () => Infinity, () => 2 ** 31, () => 2 ** 32 + 1, () => 2 ** 53, () => -(2 ** 63), () => 1n, () => 2n ** 70n,
    () => '', () => 'a', () => 'a'.repeat(513), () => '\\ud800', () => '\\0', () => Symbol('s'), () => ({}), () => [],
    () => ['a'], () => ['a', 'a'], () => [1], () => Array(5), () => Object.create(null), () => () => {}, () => new Date(NaN),
    () => new Float64Array(0), () => doubles(13), () => doubles(26), () => doubles(256 * 8), () => doubles(13, SharedArrayBuffer),
    () => new Float64Array(doubles(14).buffer, 8, 13), () => new Float32Array(13), () => new Uint8Array(104), detached, lying, hostile,
    () => new Proxy({}, { get() { throw new TypeError('on purpose') }, has() { throw new TypeError('on purpose') } }),
    () => ({ valueOf() { throw new TypeError('on purpose') }, toString() { throw new TypeError('on purpose') } }),
    () => ({ __proto__: { local: 'x', length: 3 } }), () => new addon.Bridge(() => {}, false, false, true), listing,
  ]
  const any = () => pick(values)()
  const check = (error, what) => {
    if (!(error instanceof Error)) throw new Error(what + ' threw ' + String(error))
    if (/panic|index out|for slice|internal error/i.test(error.message)) throw new Error(what + ': ' + error.message)
  }
`

it.each([1, 2, 3])('the addon takes nothing that harms it (seed %i)', async (seed) => {
  const ending = await runCode(
    `${generator(seed)}
     const bridges = [new addon.Bridge(() => {}, false, false, true)]
     const { config } = require('./lib/options/index.js').managerSettings({ local: path })
     const natives = [addon.openManager(bridges[0], config)]
     if ('code' in natives[0]) throw new Error(natives[0].message)
     native = natives[0]
     const methods = Object.getOwnPropertyNames(addon.NativeManager.prototype).filter((name) => name !== 'constructor')
     const counts = { returned: 0, threw: 0 }
     const attempt = (what, run) => {
       try {
         const result = run()
         if (result?.then) throw new Error(what + ' returned a promise')
         counts.returned++
         return result
       } catch (error) {
         check(error, what)
         counts.threw++
       }
     }
     for (let round = 0; round < 1_500; round++) {
       const args = Array.from({ length: Math.floor(random() * 7) }, any)
       const kind = random()
       if (kind < 0.6) {
         const name = pick(methods)
         // With its own types sometimes, so that what they contain is looked at.
         if (name === 'call' && random() < 0.7) args.splice(0, 3, pick([0, 1, 2, 3, 1e6]), doubles(pick([0, 5, 13, 26, 39])), pick([[], ['a'], ['a', 'b', 'c']]))
         if (name === 'acquireSync' && random() < 0.7) args.splice(0, 4, doubles(pick([5, 13, 26])), 'name' + round, pick([undefined, ['x' + round]]), doubles(pick([0, 5, 6, 7])))
         if (name === 'close' || name === 'shortenDrain') args.splice(0, args.length, pick([null, {}, 'a', [], Symbol('s')]))
         attempt(name, () => natives[0][name](...args))
         attempt(name, () => addon.NativeManager.prototype[name].apply(any(), args))
       } else if (kind < 0.8) {
         const name = pick(['drain', 'detail', 'flush', 'read', 'beginReading', 'endReading'])
         if (name === 'read' && random() < 0.7) args.splice(0, 4, pick([0, 1, 2 ** 31]), new Uint8Array(pick([0, 64])), pick([0, 64, 2 ** 31]), doubles(2048))
         const whole = name === 'drain' && random() < 0.5
         attempt(name, () => bridges[0][name](...(whole ? [doubles(pick([0, 7, 8, 16, 2048]))] : args)))
       } else if (kind < 0.9) {
         attempt('Bridge', () => new addon.Bridge(...args))
         attempt('NativeManager', () => new addon.NativeManager(...args))
         attempt('NativeListing', () => new addon.NativeListing(...args))
       } else {
         const config = pick([any(), { local: any() }, { redis: any() }, { local: { path: any(), durability: any() } }])
         attempt('openManager', () => addon.openManager(pick([bridges[0], any()]), config))
       }
     }
     // Every manager works as before, and so does one of the public class.
     const locks = new LockManager({ local: path })
     const lock = await locks.acquireLocal('afterwards', { waitMs: 5_000 })
     say({ ...counts, released: await lock.release(), stats: typeof natives[0].stats().counts.granted })
     await locks.close()
     process.exit()`,
    { limitMs: 20_000 },
  )
  expect(ending.stderr).toBe('')
  expect(ending).toMatchObject({ code: 0, signal: null })
  const { returned, threw, ...rest } = JSON.parse(ending.stdout) as Record<string, unknown>
  expect(rest).toEqual({ released: true, stats: 'number' })
  expect(Number(returned)).toBeGreaterThan(100)
  expect(Number(threw)).toBeGreaterThan(100)
})

it('the public interface refuses each with an error of its own', async () => {
  const ending = await runCode(
    `${generator(4)}
     const locks = new LockManager({ local: path })
     const lock = await locks.acquireLocal('held', { ttlMs: 60_000 })
     const wrong = []
     const refused = async (what, run) => {
       try {
         const made = await run()
         if (made && typeof made.release === 'function') await made.release()
         else if (made instanceof LockManager) await made.close()
       } catch (error) {
         check(error, what)
         const native = error instanceof TypeError || error instanceof RangeError
         if (!native && !(typeof error.code === 'string' && /^[A-Z_]+$/.test(error.code))) wrong.push(what + ': ' + error.stack)
       }
     }
     const fields = ['ttlMs', 'waitMs', 'signal', 'fair', 'renew', 'minToken', 'acks']
     const options = () => pick([any(), { [pick(fields)]: any() }, { [pick(fields)]: any(), [pick(fields)]: any() }])
     const bounded = (given) => (given && typeof given === 'object' && given.waitMs > 100 ? undefined : given)
     for (let round = 0; round < 600; round++) {
       const call = pick(['acquireLocal', 'tryAcquireLocal', 'tryAcquireLocalSync', 'acquire', 'withLock', 'inspect', 'forceRelease', 'describe', 'list', 'acquireStrong'])
       const resource = pick([any(), 'a', ['b', 'c']])
       await refused(call, () => call === 'list' ? locks.list(options()).next() : locks[call](...(call === 'withLock' ? [resource, bounded(options()), pick([() => 1, any()])] : [resource, bounded(options())])))
       if (round % 6 === 0) await refused('extend', () => lock.extend(any()))
       if (round % 6 === 1) await refused('LockManager', () => new LockManager(pick([any(), { local: any() }, { redis: any() }, { local: ':memory:', defaults: options() }])))
     }
     const works = await locks.acquireLocal('afterwards')
     say({ wrong: wrong.slice(0, 3), held: lock.held, released: await works.release() })
     await locks.close({ drainMs: 0 })
     process.exit()`,
    { limitMs: 20_000, cwd: tempDir() },
  )
  expect(ending).toMatchObject({ code: 0, signal: null })
  expect(JSON.parse(ending.stdout)).toEqual({ wrong: [], held: true, released: true })
})

it('an outcome that cannot be represented fails its own call only', async () => {
  const ending = await runCode(
    `${generator(5)}
     const locks = new LockManager({ local: path })
     const lock = await locks.acquireLocal('held')
     // As when a text is too long for a string of the runtime.
     const { detail } = addon.Bridge.prototype
     addon.Bridge.prototype.detail = () => { throw new Error('on purpose') }
     const calls = [locks.inspect('held'), locks.tryAcquireLocal('free'), locks.inspect('unheld')]
     const outcomes = await Promise.allSettled(calls)
     addon.Bridge.prototype.detail = detail
     say([outcomes.map(({ status, reason }) => reason?.code ?? status), await lock.release(), await outcomes[1].value.release()])
     await locks.close()`,
    { limitMs: 10_000 },
  )
  expect(ending).toMatchObject({ code: 0, signal: null, stderr: '' })
  expect(JSON.parse(ending.stdout)).toEqual([['OUTCOME_UNKNOWN', 'fulfilled', 'fulfilled'], true, true])
})
