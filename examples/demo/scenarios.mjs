// What the demo shows. Most scenarios run with either kind of lock.

import { LockManager } from '../../index.js'
import { LockProcess } from './lock-process.mjs'
import { result, step } from './output.mjs'

/** @typedef {import('../../index.js').ManagerOptions} Options */

/** Data that checks tokens: it remembers the highest one it has seen and refuses lower ones. */
class Ledger {
  #fence = 0n
  /** @type {string[]} */
  entries = []

  /** @param {string} entry @param {string} token */
  write(entry, token) {
    if (BigInt(token) < this.#fence) return `refused: token ${token} is below ${this.#fence}`
    this.#fence = BigInt(token)
    this.entries.push(entry)
    return 'accepted'
  }
}

/** Several processes increment one counter, each time under the lock. @param {Options} options */
export async function contention(options) {
  step('Four processes contend for one lock, three times each. Every grant has a higher token:')
  let counter = 0
  /** @type {{ name: string, token: bigint, acks: import('../../index.js').Lock['acks'] }[]} */
  const grants = []
  const processes = ['A', 'B', 'C', 'D'].map((name) => new LockProcess(name, options))
  await Promise.all(processes.map((each) => each.ask('warmUp')))
  await Promise.all(
    processes.map(async (each) => {
      for (let round = 0; round < 3; round++) {
        const { token, acks } = await each.ask('acquire', { resource: 'counter', ttlMs: 10_000 })
        const read = counter
        await new Promise((resolve) => setTimeout(resolve, 2)) // Long enough for another process to interfere.
        counter = read + 1
        grants.push({ name: each.name, token: BigInt(token), acks })
        await each.ask('release')
      }
    }),
  )
  for (const { name, token, acks } of grants) {
    const acknowledged = acks ? `  acknowledged by ${acks.received} of ${acks.required} replicas` : ''
    result(`${name}  token ${token}${acknowledged}`)
  }
  const rising = grants.every(({ token }, index) => token > (grants[index - 1]?.token ?? 0n))
  result(`12 increments, the counter says ${counter}; tokens ${rising ? 'rose every time' : 'DID NOT RISE'}`)
  if (counter !== 12 || !rising) throw new Error('the lock failed')
  await Promise.all(processes.map((each) => each.end()))
}

/** A holder dies. @param {Options} options */
export async function crash(options) {
  const isStrong = options.redis !== undefined
  const ttlMs = isStrong ? 1_500 : 60_000
  const holder = new LockProcess('holder', options)
  const successor = new LockProcess('successor', options)
  const { token } = await holder.ask('acquire', { resource: 'import', ttlMs })
  await successor.ask('warmUp')
  step(`A holder with a lease of ${ttlMs / 1000} s is killed (kill -9, token ${token}):`)
  await holder.end()
  const { token: next, tookMs } = await successor.ask('acquire', { resource: 'import', ttlMs })
  result(`the next process got the lock after ${Math.round(tookMs)} ms, with token ${next}`)
  result(
    isStrong
      ? 'Redis cannot know that a process died, so its lease had to expire.'
      : 'The host knows that the process died, so its lease ended at once.',
  )
  await successor.end()
}

/** A holder is suspended beyond its lease, and writes when it resumes. @param {Options} options */
export async function pause(options) {
  step('A holder is paused beyond its lease (SIGSTOP), as by a long garbage collection:')
  const ledger = new Ledger()
  const paused = new LockProcess('paused', options)
  const other = new LockProcess('other', options)
  await paused.ask('acquire', { resource: 'ledger', ttlMs: 500 })
  paused.signal('SIGSTOP')
  const { token } = await other.ask('acquire', { resource: 'ledger', ttlMs: 10_000 })
  const written = ledger.write('other', token)
  result(`the other process waits until the lease has ended and writes with token ${token}: ${written}`)
  paused.signal('SIGCONT')
  const late = await paused.ask('token')
  const outcome = ledger.write('paused', late.token)
  result(`the paused process resumes; its lock says held: ${late.held}; it writes all the same: ${outcome}`)
  result('The lease did not stop it. The token did.')
  if (outcome === 'accepted') throw new Error('the fence failed')
  await Promise.all([paused.end(), other.end()])
}

/**
 * A replica does not reply: the grant is refused and rolled back.
 *
 * @param {Options} options
 * @param {{ pause: () => void, resume: () => void } | undefined} replica
 */
export async function missingAcknowledgement(options, replica) {
  step('One replica is paused, and a lock asks for the acknowledgement of both:')
  const manager = new LockManager(options)
  try {
    replica?.pause()
    try {
      await manager.acquireStrong('payment', { ttlMs: 10_000 })
      throw new Error('the grant should have been refused')
    } catch (error) {
      const { code, received, required, rolledBack } = /** @type {any} */ (error)
      if (code !== 'INSUFFICIENT_REPLICAS') throw error
      result(`${code}: ${received} of ${required} acknowledged; rolled back: ${rolledBack}`)
    }
    result(`what is left on the primary: ${JSON.stringify(await manager.inspect('payment'))}`)
    const lock = await manager.acquireStrong('payment', { ttlMs: 10_000, acks: 1 })
    result(`with acks: 1 the healthy replica is enough: token ${lock.token}`)
    replica?.resume()
  } finally {
    await manager.close({ drainMs: 0 })
  }
}
