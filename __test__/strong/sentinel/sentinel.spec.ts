/** Strong locks under load while Sentinels fail over: no guarantee is broken, and grants resume at once. */
import { type LockError, type LockManager, type StrongOptions } from 'fencelock'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import { keysWithoutTtl } from '../../fixtures/history/keys'
import { rejection, unique } from '../../fixtures/locks'
import { valkeyProgram } from '../../fixtures/servers/products'
import { redisProgram } from '../../fixtures/servers/redis'
import { startSentinel, type SentinelDeployment } from '../../fixtures/servers/sentinel'
import { eventually, sleep } from '../../fixtures/temp'
import { callLimitMs, Load, managerOf } from './sentinel-load'

const rounds = Number(process.env.FENCELOCK_FAILOVER_ROUNDS ?? 1)
/** A round waits until the Sentinels are ready to fail over again. */
const timeout = 60_000 + rounds * 60_000
/**
 * Grants resume this soon after a Sentinel tells the new primary and it has as many replicas as they need.
 * The aim is 200 ms; the rest is for a busy machine, which may stall for a second and a half.
 */
const limitMs = 2500

interface Fault {
  name: string
  strike: (deployment: SentinelDeployment, valkey: boolean) => Promise<void>
  mend: (deployment: SentinelDeployment) => Promise<void>
  /** Whether acknowledgements by 1 of 2 replicas permit two holders: the old primary goes on for a while. */
  overlaps: (valkey: boolean) => boolean
}

const struck = new Map<SentinelDeployment, SentinelDeployment['servers'][number]>()

const faults: Fault[] = [
  {
    name: 'kill -9',
    strike: async (deployment) => {
      const primary = await deployment.primary()
      struck.set(deployment, primary)
      await primary.kill()
    },
    mend: async (deployment) => {
      const old = struck.get(deployment)!
      const primary = await deployment.primary()
      await old.start()
      // A Sentinel may tell it the same meanwhile, and closes its connections then.
      await eventually('the old primary follows', () =>
        old.cmd('REPLICAOF', '127.0.0.1', primary.port).catch(() => undefined),
      )
    },
    overlaps: () => false,
  },
  {
    name: 'SIGSTOP',
    strike: async (deployment) => {
      const primary = await deployment.primary()
      struck.set(deployment, primary)
      primary.pause()
    },
    mend: (deployment) => Promise.resolve(struck.get(deployment)!.resume()),
    overlaps: () => false,
  },
  {
    name: 'planned',
    strike: (deployment, valkey) => deployment.failOver({ coordinated: valkey }),
    mend: () => Promise.resolve(),
    overlaps: (valkey) => !valkey,
  },
]

const report: string[] = []
afterAll(() => {
  for (const line of report) console.log(line)
})

/** Strikes, and returns when the load had locks again for a while. */
async function failOver(deployment: SentinelDeployment, fault: Fault, load: Load, valkey: boolean) {
  const timeline = await deployment.watch()
  const pass = async () => {
    await fault.strike(deployment, valkey)
    const back = Math.max(await timeline.until('told'), await timeline.until('linked'))
    const took = await load.firstGrantAfter(back)
    // What the old primary granted is looked up at the new one by then.
    await sleep(1000)
    return took
  }
  const took = await (fault.overlaps(valkey) ? load.history.during(pass) : pass())
  timeline.stop()
  return took
}

/**
 * Leases that need both replicas: refused in time until the second one is back, and granted then. Returns how
 * long that took.
 */
async function needsBothReplicas(deployment: SentinelDeployment, fault: Fault): Promise<number> {
  const locks = managerOf(deployment)
  const all = { acks: 'all', ackTimeoutMs: 300 } as const
  const refused = await eventually('it is refused', async () => {
    const error = await rejection<LockError>(locks.acquireStrong(unique(), all))
    // A server that stalls for longer than a command may take.
    return error.code !== 'OUTCOME_UNKNOWN' && error
  })
  expect(refused).toMatchObject({ code: 'INSUFFICIENT_REPLICAS', required: 2 })
  const attempts = attemptsUntilGranted(locks, all)
  await fault.mend(deployment)
  await (await deployment.primary()).waitForReplicas(2)
  const back = performance.now()
  return Math.max(0, (await attempts) - back)
}

/** Attempts one after the other; each has an outcome in time. Returns when one was granted. */
async function attemptsUntilGranted(
  locks: LockManager,
  options: StrongOptions & { ackTimeoutMs: number },
): Promise<number> {
  for (;;) {
    const began = performance.now()
    const outcome = await locks.acquireStrong(unique(), options).catch((error: LockError) => error)
    const ended = performance.now()
    expect(ended - began).toBeLessThan(options.ackTimeoutMs + callLimitMs)
    if (!(outcome instanceof Error)) {
      expect(outcome.acks).toEqual({ required: 2, received: 2 })
      await outcome.release()
      return ended
    }
    expect(['INSUFFICIENT_REPLICAS', 'OUTCOME_UNKNOWN']).toContain(outcome.code)
  }
}

async function run(program: string, fault: Fault, valkey: boolean): Promise<void> {
  const deployment = await startSentinel({ program, failoverTimeoutMs: 5000 })
  const load = new Load(deployment)
  const grants: number[] = []
  const grantsByAll: number[] = []
  try {
    for (let round = 0; round < rounds; round++) {
      if (round > 0) await deployment.ready()
      await load.begin()
      await sleep(300)
      grants.push(await failOver(deployment, fault, load, valkey))
      await load.end()
      if (fault.name === 'kill -9') grantsByAll.push(await needsBothReplicas(deployment, fault))
      else await fault.mend(deployment)
    }
  } finally {
    report.push(`${valkey ? 'Valkey' : 'Redis'}, ${fault.name}: ${load.report(grants, grantsByAll)}`)
  }
  const { violations, grants: granted } = load.history.check()
  expect(violations).toEqual([])
  expect(granted).toBeGreaterThan(20 * rounds)
  expect(load.renewed.kept + load.renewed.lost).toBe(rounds)
  expect(Math.max(...grants, ...grantsByAll)).toBeLessThan(limitMs)
  // A Sentinel that demotes the old primary closes its connections.
  const eternal = () => keysWithoutTtl(deployment.servers).catch(() => undefined)
  expect(await eventually('the servers tell their keys', eternal)).toEqual([])
}

/** What each scenario ended with. */
const outcomes = new Map<string, PromiseSettledResult<void>>()
const products = [
  { product: 'Redis', program: redisProgram },
  { product: 'Valkey', program: valkeyProgram },
]

// All at once: most of the time they wait for Sentinels. A test for each looks at its outcome.
beforeAll(async () => {
  const scenarios = products.flatMap(({ product, program }) =>
    program === undefined ? [] : faults.map((fault) => ({ product, program, fault })),
  )
  const runs = scenarios.map(({ product, program, fault }) => run(program, fault, product === 'Valkey'))
  for (const [index, outcome] of (await Promise.allSettled(runs)).entries()) {
    const { product, fault } = scenarios[index]!
    outcomes.set(`${product} ${fault.name}`, outcome)
  }
}, timeout)

describe.each(products)('on $product', ({ product, program }) => {
  test.runIf(program !== undefined).for(faults)('under load through $name', ({ name }) => {
    const outcome = outcomes.get(`${product} ${name}`)
    if (outcome?.status !== 'fulfilled') throw outcome?.reason ?? new Error('it did not run')
  })
})
