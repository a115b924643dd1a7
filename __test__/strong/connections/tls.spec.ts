/** TLS in every deployment: one authority, certificates of both sides, other names, the end of validity. */
import { LockManager, type RedisOptions, type TlsOptions } from 'fencelock'
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'

import { closing, rejection, unique } from '../../fixtures/locks'
import { startRedisCluster } from '../../fixtures/servers/cluster'
import { startPrimary, type RedisServer } from '../../fixtures/servers/redis'
import { startSentinel } from '../../fixtures/servers/sentinel'
import { makeCertificates } from '../../fixtures/servers/tls'

const certificates = makeCertificates()
const { ca, clientCert, clientKey } = certificates
const files = { ...certificates, clientAuth: true }
const mine = { ca: readFileSync(ca), cert: readFileSync(clientCert), key: readFileSync(clientKey) }

interface Encrypted {
  servers: RedisServer[]
  /** How it is reached with TLS to the servers with the data. */
  options: (tls: TlsOptions) => RedisOptions
}

async function onePrimary(): Promise<Encrypted> {
  const { primary } = await startPrimary({ replicas: 1, tls: files })
  return { servers: [primary], options: (tls) => ({ url: primary.tlsUrl, replicas: 1, tls }) }
}

async function sentinels(): Promise<Encrypted> {
  const { servers, sentinelUrls, name } = await startSentinel({ replicas: 1, tls: files })
  const shared = { sentinels: sentinelUrls, name, replicas: 1, sentinelTls: mine }
  return { servers, options: (tls) => ({ ...shared, tls }) }
}

async function cluster(): Promise<Encrypted> {
  const { nodes, urls } = await startRedisCluster({ primaries: 2, tls: files })
  return { servers: nodes, options: (tls) => ({ cluster: urls, replicas: 1, tls }) }
}

/** The same locks each time, some on each primary of a cluster: so the connections are those of before. */
async function grants(locks: LockManager): Promise<void> {
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) {
    const lock = await locks.acquireStrong(`tls-${name}`, { ackTimeoutMs: 2000 })
    expect(lock.acks).toEqual({ required: 1, received: 1 })
    expect(await lock.release()).toBe(true)
  }
}

describe.each([
  ['one primary', onePrimary],
  ['Sentinels', sentinels],
  ['a cluster', cluster],
])('with %s', (_, start) => {
  let encrypted: Encrypted
  beforeAll(async () => {
    encrypted = await start()
  }, 60_000)

  const managerWith = (tls: TlsOptions) => closing(new LockManager({ redis: encrypted.options(tls) }))

  /** Returns why. With Sentinels, which may name another primary any moment, it is the cause. */
  async function refuses(tls: TlsOptions): Promise<string> {
    const redis = { ...encrypted.options(tls), connectTimeoutMs: 3000 }
    const error = await rejection(closing(new LockManager({ redis })).acquireStrong(unique()))
    expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
    return `${error.message} ${String(error.cause)}`
  }

  /** From now on the servers present this certificate; their connections stay. */
  async function present({ cert, key }: { cert: string; key: string }): Promise<void> {
    const change = ['tls-cert-file', cert, 'tls-key-file', key]
    await Promise.all(encrypted.servers.map((server) => server.cmd('CONFIG', 'SET', ...change)))
  }

  test('the authority and the certificates of both sides', async () => {
    await grants(managerWith(mine))
    expect(await refuses({ ...mine, ca: readFileSync(makeCertificates().ca) })).toContain('tls: { ca }')
    expect(await refuses({ ca: mine.ca })).toContain('client certificate')
  })

  test('a certificate for another name', async () => {
    await present(certificates.sign('other', { names: 'DNS:other.test' }))
    expect(await refuses(mine)).toContain('serverName')
    await grants(managerWith({ ...mine, serverName: 'other.test' }))
    expect(await refuses({ ...mine, serverName: 'another.test' })).toContain('serverName')
    await present(certificates)
  })

  test('a certificate that expires is refused to new connections only', async () => {
    const before = managerWith(mine)
    await grants(before)
    await present(certificates.sign('expired', { days: -1 }))
    expect(await refuses(mine)).toContain('has expired')
    await grants(before)
    await present(certificates)
    await grants(managerWith(mine))
  })
})
