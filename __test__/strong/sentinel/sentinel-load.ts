/** A load of strong locks through Sentinels, and what is measured and checked around a failover. */
import { LockManager, type Lock } from 'fencelock'

import { History, type Holding } from '../../fixtures/history/history'
import { closing, unique } from '../../fixtures/locks'
import { type SentinelDeployment } from '../../fixtures/servers/sentinel'
import { eventually, sleep } from '../../fixtures/temp'

const commandTimeoutMs = 2000
const ackTimeoutMs = 200
/**
 * A call may connect, then wait for one reply, in addition to its acknowledgements; two seconds are for a
 * busy machine.
 */
export const callLimitMs = 2 * commandTimeoutMs + 2000
const limitMs = callLimitMs + ackTimeoutMs
const waitMs = 1500
const resources = 4
const loops = 4
/** Longer than a failover with `downAfterMs` of 1000 takes, so that a renewed lease can outlive it. */
const heldTtlMs = 8000

/** A manager of the deployment that is closed after the test. */
export function managerOf(deployment: SentinelDeployment): LockManager {
  const { sentinelUrls: sentinels, name } = deployment
  return closing(
    new LockManager({
      redis: { sentinels, name, replicas: 2, commandTimeoutMs, connectTimeoutMs: commandTimeoutMs },
      defaults: { acks: 1, ackTimeoutMs, ttlMs: 3000 },
    }),
  )
}

/** Two managers that contend for a few locks, a lease that is renewed, and a probe that takes free locks. */
export class Load {
  readonly history = new History({ limitMs })
  /** How many renewed leases were kept, and how many were told lost. */
  readonly renewed = { kept: 0, lost: 0 }
  readonly #managers: [LockManager, LockManager]
  readonly #names = Array.from({ length: resources }, () => unique('shared'))
  #held: { lock: Lock; holding: Holding<Lock> } | undefined
  #running: Promise<unknown> | undefined
  #ended = false
  /** When the probe was granted a lock. */
  #probed: number[] = []

  constructor(deployment: SentinelDeployment) {
    this.#managers = [managerOf(deployment), managerOf(deployment)]
  }

  /** Begins the load; returns when the renewed lease is held and every loop has started. */
  async begin(): Promise<void> {
    this.#ended = false
    const [first] = this.#managers
    await Promise.all(this.#managers.map((manager) => manager.connect()))
    const name = unique('renewed')
    const holding = await this.history.acquire(
      name,
      () => first.acquireStrong(name, { ttlMs: heldTtlMs, renew: true, ackTimeoutMs: 2000 }),
      { limitMs: callLimitMs + 2000 },
    )
    if (!holding) throw new Error('the renewed lease was not granted')
    watchLoss(holding)
    this.#held = { lock: holding.value, holding }
    const contend = this.#managers.flatMap((manager, at) =>
      Array.from({ length: loops }, (_, index) => this.#contend(manager, at + index)),
    )
    this.#running = Promise.all([...contend, this.#probe(first)])
  }

  /** Ends the load: every call has its outcome, the renewed lease was kept or its loss told. */
  async end(): Promise<void> {
    this.#ended = true
    await this.#running
    const { lock, holding } = this.#held!
    const looked = await eventually('it is looked up', () =>
      this.#managers[1].inspect(lock.resource).then(
        (info) => ({ owner: info?.owner }),
        () => undefined,
      ),
    )
    if (lock.held) {
      // The lease that is called held is the one that the new primary has.
      if (looked.owner !== lock.owner) throw new Error('a lease is called held, and the primary lacks it')
      this.renewed.kept += 1
    } else {
      await eventually('the loss is told', () => lock.signal.aborted)
      this.renewed.lost += 1
    }
    await holding.release(() => lock.release())
  }

  /** How long after this instant, by `performance.now()`, the next lock was granted. */
  async firstGrantAfter(instant: number): Promise<number> {
    const next = () => this.#probed.find((at) => at > instant)
    return (await eventually('a lock is granted', next, 10_000)) - instant
  }

  /**
   * What happened, on a few lines; `grants` are the times of {@link firstGrantAfter}, `byAll` those of locks
   * that all replicas acknowledged.
   */
  report(grants: number[], byAll: number[]): string {
    const { outcomes, slowestMs, losses, expectedOverlaps } = this.history.check()
    const list = (times: number[]) => times.map((ms) => ms.toFixed(0)).join(', ')
    const all = byAll.length > 0 ? `; with acks: 'all' after ${list(byAll)} ms` : ''
    const { kept, lost } = this.renewed
    return [
      `first grant after ${list(grants)} ms${all} (the aim is 200)`,
      `outcomes ${JSON.stringify(outcomes)}, slowest in ms ${JSON.stringify(slowestMs)}`,
      `${losses} leases lost, ${expectedOverlaps} overlaps; renewed leases: ${kept} kept, ${lost} lost`,
    ].join('\n  ')
  }

  async #probe(manager: LockManager): Promise<void> {
    for (; !this.#ended; await sleep(10)) {
      const name = unique('probe')
      const holding = await this.history.acquire(name, () => manager.acquireStrong(name))
      if (!holding) continue
      this.#probed.push(performance.now())
      await finish(holding)
    }
  }

  /** Takes the shared locks in turn; every second call waits, every third lock is extended. */
  async #contend(manager: LockManager, offset: number): Promise<void> {
    for (let round = offset; !this.#ended; round++) {
      const name = this.#names[round % resources]!
      const waits = round % 2 === 0
      const holding = await this.history.acquire(
        name,
        () => manager.acquireStrong(name, waits ? { waitMs } : {}),
        { limitMs: waits ? waitMs + limitMs : limitMs },
      )
      if (holding) {
        if (round % 3 === 0) await holding.extend(() => holding.value.extend())
        await sleep(5)
        await finish(holding)
      }
      await sleep(20)
    }
  }
}

function watchLoss(holding: Holding<Lock>): void {
  holding.value.signal.addEventListener('abort', () => holding.lose())
  if (holding.value.signal.aborted) holding.lose()
}

async function finish(holding: Holding<Lock>): Promise<void> {
  watchLoss(holding)
  await holding.release(() => holding.value.release())
}
