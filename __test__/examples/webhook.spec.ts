/** `examples/webhook`: each event is booked once, whatever happens to the instance that has it. */
import { postgresGuard } from 'fencelock/guard'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { unique } from '../fixtures/locks'
import { type Script } from '../fixtures/processes/processes'
import { startRedis } from '../fixtures/servers/redis'
import { hasPostgres, startPostgres } from '../fixtures/servers/sql-servers'
import { eventually } from '../fixtures/temp'
import { line, startExample } from './support'

if (!hasPostgres) console.warn('SKIPPED: PostgreSQL is not installed (apt install postgresql)')

describe.skipIf(!hasPostgres)('the webhook handler', () => {
  let env: NodeJS.ProcessEnv
  let pool: any
  let id: string
  beforeAll(async () => {
    const [redis, postgres, { default: drivers }] = await Promise.all([
      startRedis(),
      startPostgres(),
      import('../../scripts/sql-clients/drivers.mjs'),
    ])
    const { user, port, database } = postgres
    env = {
      REDIS_URL: redis.url,
      DATABASE_URL: `postgres://${user}@127.0.0.1:${port}/${database}?application_name=webhook`,
      PORT: '0',
    }
    pool = new drivers.pg.Pool(postgres)
    onCleanup(() => pool.end())
    await pool.query('CREATE TABLE account (id text PRIMARY KEY, balance bigint NOT NULL)')
  }, 60_000)
  beforeEach(async () => {
    id = unique('event')
    await pool.query('INSERT INTO account VALUES ($1, 10)', [id])
  })

  interface Instance {
    script: Script
    /** Sends the event of this test, or this one, as its sender does. */
    send: (event?: object) => Promise<{ status: number; body: unknown }>
  }

  async function startInstance(workMs = 100): Promise<Instance> {
    const script = startExample('webhook/index.mjs', { env: { ...env, WORK_MS: String(workMs) } })
    const [, address] = await line(script, /^listening on (\S+)$/)
    const send = async (event?: object) => {
      const response = await fetch(`${address}/webhooks/payments`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify(event ?? { id, account: id, amount: 5 }),
      })
      return { status: response.status, body: await response.json() }
    }
    return { script, send }
  }

  const balance = async () =>
    Number((await pool.query('SELECT balance FROM account WHERE id = $1', [id])).rows[0].balance)
  const booked = () => ({ status: 200, body: { booked: id, balance: 15 } })
  const booking = /^booking \S+ with token (\d+)$/

  it('answers 409 while the first request runs, and with the stored answer afterwards', async () => {
    const [one, two] = await Promise.all([startInstance(2_500), startInstance()])
    const first = one.send()
    await line(one.script, booking)
    expect(await two.send()).toEqual({ status: 409, body: { error: 'in progress' } })
    expect(await one.send()).toEqual({ status: 409, body: { error: 'in progress' } })
    expect(await first).toEqual(booked())
    expect(await two.send()).toEqual(booked())
    expect(await one.send()).toEqual(booked())
    expect(await balance()).toBe(15)

    // A deploy: the request in flight is answered.
    id = unique('event')
    await pool.query('INSERT INTO account VALUES ($1, 10)', [id])
    const last = one.send()
    await eventually('it runs', () => one.script.stdout.includes(id))
    expect(await one.script.kill('SIGTERM')).toMatchObject({ code: 0, stderr: '' })
    expect(await last).toEqual(booked())
  })

  it('does the work again after a crash in the middle', async () => {
    const [one, two] = await Promise.all([startInstance(60_000), startInstance()])
    const crashed = one.send().catch(() => 'no answer')
    await line(one.script, booking)
    await one.script.kill('SIGKILL')
    expect(await crashed).toBe('no answer')
    expect((await two.send()).status, 'its lease has not ended').toBe(409)
    const answer = await eventually('the lease has ended', async () => {
      const each = await two.send()
      return each.status === 409 ? undefined : each
    })
    expect(answer).toEqual(booked())
    expect(await balance()).toBe(15)
  })

  it('refuses an instance that was stopped for longer than its lease', async () => {
    // It is stopped for longer than this.
    const [one, two] = await Promise.all([startInstance(3_000), startInstance()])
    const late = one.send()
    await line(one.script, booking)
    one.script.pause()
    const answer = await eventually('the lease has ended', async () => {
      const each = await two.send()
      return each.status === 409 ? undefined : each
    })
    expect(answer).toEqual(booked())
    one.script.resume()
    expect(await late).toEqual({ status: 503, body: { error: 'try again' } })
    expect(await balance()).toBe(15)
  })

  it('is refused by the fence even if it does not know that it is late', async () => {
    const one = await startInstance(2_000)
    const late = one.send()
    const token = BigInt((await line(one.script, booking))[1]!)
    await postgresGuard({ client: pool }).advance({ resource: `event:${id}`, token: token + 1n })
    expect(await late).toEqual({ status: 503, body: { error: 'try again' } })
    expect(one.script.stderr).toContain('STALE_TOKEN')
    expect(await balance()).toBe(10)
    expect(await one.send(), 'a newer token').toEqual(booked())
  })

  it('refuses what no other try can mend, and books nothing', async () => {
    const { send } = await startInstance()
    expect((await send({ account: id, amount: 5 })).status).toBe(400)
    expect((await send({ id: 'x'.repeat(600), account: id, amount: 5 })).status).toBe(400)
    expect((await send({ id, account: 'unknown', amount: 5 })).status).toBe(422)
    expect(await balance()).toBe(10)
    expect(await send(), 'a corrected one').toEqual(booked())
  })

  it('goes on when the database has closed its idle connections', async () => {
    const { script, send } = await startInstance()
    expect(await send()).toEqual(booked())
    const { rows } = await pool.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'webhook'",
    )
    const reported = () => script.stderr.match(/^error: terminating connection/gm)?.length ?? 0
    await eventually('each of them is reported', () => reported() >= rows.length)
    expect(await send()).toEqual(booked())
    expect(await script.kill('SIGTERM')).toMatchObject({ code: 0 })
  })
})
