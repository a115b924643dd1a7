// An ES module that uses the package.
import {
  InsufficientReplicasError,
  LockHeldError,
  LockManager,
  StaleTokenError as FromMain,
  type ChannelMessages,
  type Lock,
  type LockInfo,
  type ManagerStats,
  type TracingContexts,
} from 'fencelock'
import * as everything from 'fencelock'
import {
  fencedFetch,
  fencingHeaders,
  httpFence,
  mysqlGuard,
  postgresGuard,
  redisGuard,
  sqliteGuard,
  StaleTokenError,
  type RedisGuard,
} from 'fencelock/guard'
import { instrument, type Instrumentation } from 'fencelock/otel'
import { delay, expire, fail, hold, lose, type FailureCode, type Interference } from 'fencelock/testing'

export const manager: LockManager = new LockManager()
declare const url: string | undefined
export const configured: LockManager = new LockManager({
  ...(url && { redis: url }),
  local: new URL('file:///l'),
})
// @ts-expect-error -- a variable that is not set must not choose a weaker guarantee
new LockManager({ redis: url })
// @ts-expect-error -- the same for a path
new LockManager({ local: undefined })
new LockManager({ redis: { url: 'redis://one', replicas: 2, durable: true, tls: true } })
new LockManager({
  redis: {
    sentinels: ['redis://one', new URL('redis://two'), { host: 'three' }, { host: '::1', port: 26_379 }],
    name: 'mymaster',
    sentinelTls: true,
    sentinelPassword: 'secret',
    tls: { serverName: 'redis' },
    db: 3,
    nodeAddressMap: { '10.0.0.1:6379': { host: 'one', port: 7001 } },
  },
  defaults: { fsync: true },
})
new LockManager({ redis: { cluster: 'rediss://one' } })
new LockManager({ redis: { cluster: ['redis://one', 'redis://two'], db: 0, sentinels: undefined } })
// @ts-expect-error -- one way to the servers
new LockManager({ redis: { url: 'redis://one', cluster: 'redis://one' } })
// @ts-expect-error -- Sentinels are asked for a name
new LockManager({ redis: { sentinels: ['redis://one'] } })
// @ts-expect-error -- only Sentinels know names
new LockManager({ redis: { cluster: 'redis://one', name: 'mymaster' } })
// @ts-expect-error -- a cluster has one database
new LockManager({ redis: { cluster: 'redis://one', db: 1 } })
// @ts-expect-error -- an address that is reached has a port
new LockManager({ redis: { cluster: 'redis://one', nodeAddressMap: { 'a:1': { host: 'b' } } } })
// @ts-expect-error -- no way to the servers
new LockManager({ redis: { replicas: 2 } })
void manager.acquireStrong('a', { fsync: true, acks: 0 })
// @ts-expect-error -- of strong locks
void manager.acquireLocal('a', { fsync: true })
export const single: Promise<Lock | null> = manager.tryAcquire('a', { ttlMs: 50, waitMs: 0 })
// @ts-expect-error -- a single attempt does not wait
void manager.tryAcquire('a', { waitMs: 5 })
new LockManager({ holderName: 'web-1' })
// @ts-expect-error -- a name is a text
new LockManager({ holderName: 5 })
export async function list(): Promise<(string | undefined)[]> {
  const since: Date | undefined = (await manager.inspect('a'))?.holder?.since
  const names = [since?.toISOString()]
  for await (const { resource, token, waiters, holder } of manager.list({ prefix: 'a' })) {
    names.push(resource, String(token + BigInt(waiters)), holder?.name, holder?.host)
  }
  const listing: AsyncIterableIterator<LockInfo> = manager.list({ signal: AbortSignal.timeout(5) })
  await listing.return?.()
  return names
}
// @ts-expect-error -- a pattern is no prefix
manager.list({ pattern: 'a*' })
export const made: 'LOCK_HELD' = new LockHeldError('held', { resource: 'a', remainingMs: 5 }).code
export const explained: string = new LockHeldError('held').help
export const required: number = new InsufficientReplicasError('too few', { cause: made }).required
// @ts-expect-error -- not a field of this class
new LockHeldError('held', { required: 5 })
export const same: typeof LockManager = everything.LockManager

// The guards, with clients that look like those of pg, postgres, mysql2, mariadb and SQLite.
interface Connection {
  query(text: string): Promise<{ rows: { balance: string }[] }>
}
declare const lock: Lock
declare const pgPool: {
  totalCount: number
  connect(): Promise<Connection & { release(): void }>
  connect(
    callback: (error: Error | undefined, client: Connection | undefined, done: () => void) => void,
  ): void
}
declare const pgClient: Connection & { escapeIdentifier(text: string): string; mine: true }
declare const sql: {
  (parts: TemplateStringsArray): Promise<unknown[]>
  begin(work: (tx: { savepoint: true }) => unknown): Promise<unknown>
  begin(options: string, work: (tx: { savepoint: true }) => unknown): Promise<unknown>
  unsafe(text: string): Promise<unknown[]>
}
declare const mysqlPool: { getConnection(): Promise<{ threadId: number }> }
declare const database: { exec(text: string): void; prepare(text: string): { run(): void } }

export const balance: Promise<string | undefined> = postgresGuard({ client: pgPool }).run(
  lock,
  async (tx) => (await tx.query('SELECT balance FROM account')).rows[0]?.balance,
)
export const mine: Promise<true> = postgresGuard({ client: pgClient, isolation: 'serializable' }).run(
  lock,
  (tx) => tx.mine,
)
export const savepoint: Promise<true> = postgresGuard({ client: sql, table: 'fences' }).run(
  lock,
  (tx) => tx.savepoint,
)
export const thread: Promise<number> = mysqlGuard({ client: mysqlPool, abortOnLoss: true }).run(
  lock,
  (tx) => tx.threadId,
)
export const done: void = sqliteGuard({ client: database }).runSync(lock, (db) =>
  db.prepare('DELETE FROM a').run(),
)
export const own: Promise<5> = sqliteGuard<5>({
  adapter: { transaction: (work) => work(5), query: async () => ({ rows: [] }) },
}).run(lock, (tx) => tx)
export const advanced: Promise<void> = postgresGuard({ client: pgPool }).advance({ resource: 'a', token: 5n })
export const several: Promise<void> = postgresGuard({ client: pgPool }).advance({
  resources: ['a', 'b'],
  token: 5n,
})
export const high: Promise<bigint | null> = postgresGuard({ client: pgPool }).highWater('a')
// @ts-expect-error -- a token is a bigint
void postgresGuard({ client: pgPool }).advance({ resource: 'a', token: 5 })
// @ts-expect-error -- a lock has a resource
void postgresGuard({ client: pgPool }).advance({ token: 5n })
// @ts-expect-error -- SQLite has no isolation levels
sqliteGuard({ client: database, isolation: 'serializable' })
export const stale: (error: unknown) => bigint | undefined = (error) =>
  error instanceof StaleTokenError ? error.current : undefined
export const sameError: typeof StaleTokenError = FromMain

declare const client: {
  evalSha(sha: string, options?: { keys?: string[]; arguments?: string[] }): Promise<unknown>
  eval(script: string, options?: { keys?: string[]; arguments?: string[] }): Promise<unknown>
}
export const guard: RedisGuard = redisGuard({ client })
export const fence = httpFence(guard, { resource: ({ params }) => `account:${params.id}` })
export const handler = fence.fetch(async (request: Request, fencing) => {
  await guard.set(fencing, fencing.resource, await request.text())
  return new Response(String(fencing.token))
})
export async function use(): Promise<void> {
  await using both = await manager.acquire(['account:1', 'account:2'])
  const written: boolean = await guard.set(both, 'account:1', 1n, { ttlMs: 1_000 })
  const minToken: bigint | null = await guard.highWater('account:1')
  const response: Response = await fencedFetch(both, 'https://ledger.example', {
    headers: fencingHeaders(both),
  })
  console.log(written, minToken, response.status)
}

export const loss: Promise<boolean> = lose(lock, 'a failover')
export const expiry: Promise<boolean> = expire(manager, 'a', { strategy: 'local' })
export const others: Promise<Lock> = hold(manager, ['a', 'b'], { ttlMs: 50 })
export const code: FailureCode = 'OUTCOME_UNKNOWN'
export const failing: Interference = fail(manager, 'a', code, { times: Infinity })
export const slow: Disposable = delay(manager, 50)
// @ts-expect-error -- no acquire fails with the code of a guard
fail(manager, 'a', 'STALE_TOKEN')

export const stop: Instrumentation = instrument({ resourceGroup: (resource) => resource.split(':')[0] ?? '' })
// @ts-expect-error -- a group is a text
instrument({ resourceGroup: () => 1 })
export function seen(
  { outcome, owner, waitedMs, error }: TracingContexts['fencelock:acquire'],
  { cause, heldMs }: ChannelMessages['fencelock:lost'],
): string {
  // @ts-expect-error -- no acquire ends like this
  if (outcome === 'released') return ''
  const waited: number | undefined = waitedMs
  return [
    outcome === 'granted' ? owner : String(error),
    waited,
    cause === 'expired',
    heldMs.toFixed(0),
  ].join()
}
export const counts: ManagerStats = manager.stats()
export const expired: number = counts.losses.expired + counts.waitMs.p99 + (counts.connections[0]?.open ?? 0)
