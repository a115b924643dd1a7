// The acts of the demo. Each plays on either kind of lock.

import { LockManager } from '../index.js'

const strong = (options) => 'redis' in options

/** Data that checks tokens: it remembers the highest it has seen and refuses lower ones. */
class Ledger {
  #fence = 0n
  entries = []

  write(entry, token) {
    if (BigInt(token) < this.#fence) return `refused: token ${token} is below ${this.#fence}`
    this.#fence = BigInt(token)
    this.entries.push(entry)
    return 'accepted'
  }
}

/** Several processes increment one counter, each time under the lock. */
export async function contend(stage, options) {
  stage.act('Four processes contend for one lock, three times each. Every grant has a higher token:')
  let counter = 0
  const grants = []
  const actors = ['A', 'B', 'C', 'D'].map((name) => stage.actor(name, options))
  await Promise.all(actors.map((actor) => actor.ask('warmUp')))
  await Promise.all(
    actors.map(async (actor) => {
      for (let round = 0; round < 3; round++) {
        const { token, acks } = await actor.ask('acquire', { resource: 'counter', ttlMs: 10_000 })
        const read = counter
        await new Promise((resolve) => setTimeout(resolve, 2)) // long enough for others to get in between
        counter = read + 1
        grants.push({ name: actor.name, token: BigInt(token), acks })
        await actor.ask('release')
      }
    }),
  )
  for (const { name, token, acks } of grants) {
    stage.say(
      `${name}  token ${token}${acks ? `  acknowledged by ${acks.received} of ${acks.required} replicas` : ''}`,
    )
  }
  const rising = grants.every(({ token }, index) => index === 0 || token > grants[index - 1].token)
  stage.say(
    `12 increments, the counter says ${counter}; tokens ${rising ? 'rose every time' : 'DID NOT RISE'}`,
  )
  if (counter !== 12 || !rising) throw new Error('the lock failed')
  await Promise.all(actors.map((actor) => actor.end()))
}

/** A holder dies. */
export async function takeOver(stage, options) {
  const ttlMs = strong(options) ? 1_500 : 60_000
  const holder = stage.actor('holder', options)
  const heir = stage.actor('heir', options)
  const { token } = await holder.ask('acquire', { resource: 'import', ttlMs })
  await heir.ask('warmUp')
  stage.act(`A holder with a lease of ${ttlMs / 1000} s is killed (kill -9, token ${token}):`)
  await holder.end('SIGKILL')
  const { token: next, tookMs } = await heir.ask('acquire', { resource: 'import', ttlMs })
  stage.say(`the next process got the lock after ${Math.round(tookMs)} ms, with token ${next}`)
  stage.say(
    strong(options)
      ? 'Redis cannot know that a process died, so its lease had to run out.'
      : 'The host knows that the process died, so nobody waited for its lease.',
  )
  await heir.end()
}

/** A holder sleeps through its lease, and writes when it wakes up. */
export async function fenceOff(stage, options) {
  stage.act('A holder is paused beyond its lease (SIGSTOP), as by a long garbage collection:')
  const ledger = new Ledger()
  const sleeper = stage.actor('sleeper', options)
  const other = stage.actor('other', options)
  await sleeper.ask('acquire', { resource: 'ledger', ttlMs: 500 })
  sleeper.signal('SIGSTOP')
  const { token } = await other.ask('acquire', { resource: 'ledger', ttlMs: 10_000 })
  stage.say(
    `the other process waits for the lease to end and writes with token ${token}: ${ledger.write('other', token)}`,
  )
  sleeper.signal('SIGCONT')
  const late = await sleeper.ask('token')
  const verdict = ledger.write('sleeper', late.token)
  stage.say(`the sleeper wakes up; its lock says held: ${late.held}; it writes all the same: ${verdict}`)
  stage.say('The lease did not stop it. The token did.')
  if (verdict === 'accepted') throw new Error('the fence failed')
  await Promise.all([sleeper.end(), other.end()])
}

/** A replica that does not answer: the grant is refused and rolled back. */
export async function refuseGrant(stage, redis) {
  stage.act('One replica is paused, and a lock asks for the acknowledgement of both:')
  await withResource(new LockManager({ redis: redis.url }), async (manager) => {
    redis.pauseReplica()
    try {
      await manager.acquireStrong('payment', { ttlMs: 10_000 })
      throw new Error('the grant should have been refused')
    } catch (error) {
      if (error.code !== 'INSUFFICIENT_REPLICAS') throw error
      stage.say(
        `${error.code}: ${error.received} of ${error.required} acknowledged; rolled back: ${error.rolledBack}`,
      )
    }
    stage.say(`what is left on the primary: ${JSON.stringify(await manager.inspect('payment'))}`)
    const lock = await manager.acquireStrong('payment', { ttlMs: 10_000, acks: 1 })
    stage.say(`with acks: 1 the healthy replica is enough: token ${lock.token}`)
    redis.resumeReplica()
  })
}

/** `await using`, for versions of Node.js without it. */
async function withResource(resource, use) {
  try {
    return await use(resource)
  } finally {
    await resource[Symbol.asyncDispose]()
  }
}
