// An ES module that uses the package.
import { LockManager } from 'fencelock'
import * as everything from 'fencelock'
import { fencedFetch, fencingHeaders, httpFence, redisGuard, type RedisGuard } from 'fencelock/guard'

export const manager: LockManager = new LockManager()
export const same: typeof LockManager = everything.LockManager

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
  await using lock = await manager.acquire(['account:1', 'account:2'])
  const written: boolean = await guard.set(lock, 'account:1', 1n, { ttlMs: 1_000 })
  const minToken: bigint | null = await guard.highWater('account:1')
  const response: Response = await fencedFetch(lock, 'https://ledger.example', {
    headers: fencingHeaders(lock),
  })
  console.log(written, minToken, response.status)
}
