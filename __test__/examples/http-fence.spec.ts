/** `examples/http-fence`: a service that refuses a client that woke up too late. */
import { fencingHeaders } from 'fencelock/guard'
import { expect, it } from 'vitest'

import { startRedis } from '../fixtures/servers/redis'
import { line, startExample } from './support'

it('a client that was stopped for longer than its lease is refused with 409', async () => {
  const redis = await startRedis()
  const env = { REDIS_URL: redis.url, PORT: '0' }
  const service = startExample('http-fence/index.mjs', { env })
  const url = (await line(service, /^listening on (\S+)$/))[1]!
  const write = (...lines: string[]) =>
    startExample('http-fence/client.mjs', { env, args: [url, 'intro', ...lines] })

  const late = write('of the late one', 'its second line')
  await line(late, /^sent: of the late one$/)
  late.pause()
  // Waits for the end of the late one's lease.
  const next = await write('of the next one').ended
  expect(next).toMatchObject({ code: 0, stderr: '' })
  const token = BigInt(/^written with token (\d+)$/m.exec(next.stdout)![1]!)
  late.resume()
  const refusal = await line(late, /^refused with 409: token (\d+) is lower than (\d+)$/)
  expect(BigInt(refusal[1]!)).toBeLessThan(token)
  expect(BigInt(refusal[2]!)).toBe(token)
  expect(await late.ended).toMatchObject({ code: 1, stderr: '' })
  expect(await redis.cmd('GET', 'document:intro')).toBe('of the next one\n')

  // The answers themselves, as clients in other languages see them.
  const put = (headers: Record<string, string>) =>
    fetch(`${url}/documents/intro`, {
      method: 'PUT',
      headers: { 'Content-Type': 'text/plain', ...headers },
      body: 'of a client that does not know',
    })
  const stale = await put({ ...fencingHeaders({ resource: 'document:intro', token: token - 1n }) })
  expect(stale.status).toBe(409)
  expect(await stale.json()).toMatchObject({
    type: 'urn:fencelock:stale-token',
    resource: 'document:intro',
    token: String(token - 1n),
    current: String(token),
  })
  expect((await put({})).status).toBe(400)
  expect((await put({ ...fencingHeaders({ resource: 'document:other', token: token + 1n }) })).status).toBe(
    400,
  )
  expect(await redis.cmd('GET', 'document:intro')).toBe('of the next one\n')
  expect(await service.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' })
})
