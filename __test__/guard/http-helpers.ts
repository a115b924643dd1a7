/** Helpers for the specs of fencing over HTTP: a guard in memory, the headers, and a server. */
import { StaleTokenError } from 'fencelock/guard'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'

import { onCleanup } from '../fixtures/cleanup'

/** A guard in memory: the check uses all guards in the same way. */
export function memoryGuard(fail?: Error) {
  const stored = new Map<string, bigint>()
  return {
    stored,
    async advance({ resources, token }: { resources: readonly string[]; token: bigint }) {
      if (fail) throw fail
      for (const resource of resources) {
        const current = stored.get(resource) ?? 0n
        // As in the guards.
        if (current > token)
          throw new StaleTokenError('stale', {
            code: 'STALE_TOKEN',
            resource,
            strategy: undefined,
            token,
            current,
          } as any)
      }
      for (const resource of resources) stored.set(resource, token)
    },
  }
}

export const headers = (token: string, resource: string) => ({
  'fencing-token': token,
  'fencing-resource': resource,
})

/** Starts a server that calls this for each request; resolves with its address. */
export async function listen(listener: (...args: Parameters<RequestListener>) => unknown): Promise<string> {
  const server = createServer((request, response) => void listener(request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onCleanup(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
