/** Strong locks through Sentinels: credentials, TLS, address maps, URLs, and what errors say. */
import { LockManager, type RedisOptions, type RedisSentinelOptions } from 'fencelock'
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startProxy } from '../../fixtures/servers/proxy'
import { startSentinel, type SentinelDeployment } from '../../fixtures/servers/sentinel'
import { makeCertificates } from '../../fixtures/servers/tls'
import { freePort } from '../../fixtures/temp'

interface Failure {
  code: string
  message: string
}

const managerFor = (redis: string | RedisOptions): LockManager => closing(new LockManager({ redis }))

async function grants(redis: string | RedisOptions): Promise<void> {
  const lock = await managerFor(redis).acquireStrong(unique(), { ackTimeoutMs: 2000 })
  expect(lock.acks).toEqual({ required: 1, received: 1 })
  expect(await lock.release()).toBe(true)
}

const fails = (redis: string | RedisOptions): Promise<Failure> =>
  rejection<Failure>(managerFor(redis).acquireStrong(unique()))

describe('without passwords', () => {
  let deployment: SentinelDeployment
  beforeAll(async () => {
    deployment = await startSentinel({ replicas: 1 })
  })
  const hosts = () => deployment.sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',')

  test('a URL of all Sentinels', async () => {
    await grants({ url: `redis+sentinel://${hosts()}/${deployment.name}`, replicas: 1 })
    await grants({ url: `valkey+sentinel://${hosts()}/${deployment.name}/1`, replicas: 1 })
  })

  test('an unknown name', async () => {
    const { sentinelUrls: sentinels } = deployment
    const { code, message } = await fails({ sentinels, name: 'lokcs' })
    expect(code).toBe('BACKEND_UNAVAILABLE')
    expect(message).toContain('watches no primary named "lokcs"')
    expect(message).toContain(`the names that it knows: ${deployment.name}`)
  })

  test('Sentinels that do not answer', async () => {
    const ports = [await freePort(), await freePort()]
    const sentinels = ports.map((port) => `redis://127.0.0.1:${port}`)
    const { code, message } = await fails({ sentinels, name: deployment.name, connectTimeoutMs: 300 })
    expect(code).toBe('BACKEND_UNAVAILABLE')
    expect(message).toContain('none of 2 Sentinels answers')
  })

  test('the addresses that are announced are mapped', async () => {
    const [primary] = deployment.servers
    const proxy = await startProxy(primary!.port)
    const { sentinelUrls: sentinels, name } = deployment
    const nodeAddressMap = { [deployment.addressOf(primary!)]: { host: '127.0.0.1', port: proxy.port } }
    await grants({ sentinels, name, replicas: 1, nodeAddressMap })
    expect(proxy.accepted).toBeGreaterThan(0)
  })
})

describe('with passwords and TLS', () => {
  const certificates = makeCertificates()
  const tls = { ca: readFileSync(certificates.ca) }
  let deployment: SentinelDeployment
  let right: RedisSentinelOptions
  beforeAll(async () => {
    deployment = await startSentinel({
      replicas: 1,
      tls: certificates,
      hostname: 'localhost',
      data: { password: 'data-secret' },
      watchers: { password: 'watch-secret' },
    })
    right = {
      sentinels: deployment.sentinels.map(({ tlsPort }) => `rediss://localhost:${tlsPort}`),
      name: deployment.name,
      replicas: 1,
      password: 'data-secret',
      tls,
      sentinelPassword: 'watch-secret',
      sentinelTls: tls,
    }
  })

  test('each kind of server has its own', async () => {
    await grants(right)
    const hosts = deployment.sentinels.map(({ tlsPort }) => `localhost:${tlsPort}`).join(',')
    const url = `rediss+sentinel://:data-secret@${hosts}/${deployment.name}`
    await grants({ url, replicas: 1, tls, sentinelPassword: 'watch-secret', sentinelTls: tls })
  })

  test('neither is used for the other', async () => {
    const swapped = await fails({ ...right, password: 'watch-secret', sentinelPassword: 'data-secret' })
    expect(swapped.message).toMatch(/Sentinel.*(WRONGPASS|password)/)
    const forData = await fails({ ...right, password: undefined })
    expect(forData.message).toContain('the server asks for a password')
    const forSentinels = await fails({ ...right, sentinelPassword: undefined })
    expect(forSentinels.message).toContain('sentinelPassword')
    for (const { message } of [swapped, forData, forSentinels]) {
      expect(message).not.toContain('-secret')
    }
  })

  test('a certificate of an unknown authority', async () => {
    const stranger = { ca: readFileSync(makeCertificates().ca) }
    expect((await fails({ ...right, sentinelTls: stranger })).message).toMatch(/Sentinel.*certificate/)
    expect((await fails({ ...right, tls: stranger })).message).toContain('certificate')
  })
})
