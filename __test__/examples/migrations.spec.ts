/** `examples/migrations`: one of the instances that start migrates, and the others wait. */
import { LockManager } from 'fencelock'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { closing } from '../fixtures/locks'
import { startRedis, type RedisServer } from '../fixtures/servers/redis'
import { hasPostgres, startPostgres, type SqlServer } from '../fixtures/servers/sql-servers'
import { eventually, tempDir } from '../fixtures/temp'
import { line, lines, startExample } from './support'

if (!hasPostgres) console.warn('SKIPPED: PostgreSQL is not installed (apt install postgresql)')

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})

describe.skipIf(!hasPostgres)('migrations with Knex', () => {
  let server: SqlServer
  let databases = 0
  let admin: any
  let drivers: any
  beforeAll(async () => {
    ;[server, { default: drivers }] = await Promise.all([
      startPostgres(),
      import('../../scripts/sql-clients/drivers.mjs'),
    ])
    admin = new drivers.pg.Pool(server)
    onCleanup(() => admin.end())
  }, 60_000)

  /** A database of its own, and a Redis; returns how to start an instance that uses them. */
  async function environment(REDIS_URL?: string) {
    const database = `shop${++databases}`
    await admin.query(`CREATE DATABASE ${database}`)
    const url = `postgres://${server.user}@127.0.0.1:${server.port}/${database}`
    const env = { REDIS_URL: REDIS_URL ?? (await startRedis()).url, DATABASE_URL: url }
    return (more: NodeJS.ProcessEnv = {}, settings = '') => {
      const DATABASE_URL = settings ? `${url}?options=${encodeURIComponent(settings)}` : url
      return startExample('migrations/index.mjs', { env: { ...env, DATABASE_URL, ...more } })
    }
  }
  const migrated = /^migrated with token \d+: (\d+)$/

  /** A migration in several steps: 25 orders, one in a tenth of a second. */
  function slowMigration(): string {
    const folder = join(tempDir(), 'slow')
    mkdirSync(folder)
    writeFileSync(
      join(folder, '001-slow.mjs'),
      `export async function up(knex) {
         await knex.schema.createTable('orders', (table) => table.integer('id').primary())
         for (let id = 1; id <= 25; id++) {
           await knex('orders').insert({ id })
           if (id === 2) console.log('in the middle')
           await new Promise((resolve) => setTimeout(resolve, 100))
         }
       }
       export async function down() {}`,
    )
    return folder
  }

  it('migrates on one instance of an empty database, and serves on all of them afterwards', async () => {
    const start = await environment()
    const endings = await Promise.all([start(), start(), start()].map((each) => each.ended))
    for (const { code, stdout, stderr } of endings) {
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toMatch(/^serving 0 orders$/m)
    }
    const texts = endings.map(({ stdout }) => stdout.split('\n')[0]!).toSorted()
    expect(texts).toEqual([expect.stringMatching(migrated), 'nothing to migrate', 'nothing to migrate'])
    expect(migrated.exec(texts[0]!)![1]).toBe('2')
  })

  // Both wait for the end of a lease, so they do it at the same time.
  it('migrates on another instance after one was killed or stopped in the middle', async () => {
    const MIGRATIONS = slowMigration()
    const killing = async () => {
      const start = await environment()
      const killed = start({ MIGRATIONS })
      await line(killed, /^in the middle$/)
      const other = start({ MIGRATIONS })
      await killed.kill('SIGKILL')
      // Nothing of the first one is left: its table would be in the way.
      expect(await other.ended).toMatchObject({ code: 0, stderr: '' })
      expect(lines(other, migrated)).toHaveLength(1)
      expect(lines(other, /^serving 25 orders$/)).toHaveLength(1)
    }
    const stopping = async () => {
      const start = await environment()
      // Less than the minute of the example.
      const late = start({ MIGRATIONS }, '-c idle_in_transaction_session_timeout=4s')
      await line(late, /^in the middle$/)
      late.pause()
      const other = start({ MIGRATIONS })
      expect(await other.ended).toMatchObject({ code: 0, stderr: '' })
      expect(lines(other, migrated)).toHaveLength(1)
      expect(lines(other, /^serving 25 orders$/)).toHaveLength(1)
      late.resume()
      const { code, stdout } = await late.ended
      expect(code).toBe(1)
      // The database has ended its connection, which it hears of with its next statement, or before that.
      expect(stdout).toMatch(/^migration failed with error: .*connection/m)
      expect(lines(late, migrated)).toEqual([])
      // Its next start is an ordinary one.
      expect((await start({ MIGRATIONS }).ended).stdout).toBe('nothing to migrate\nserving 25 orders\n')
    }
    await Promise.all([killing(), stopping()])
  })

  it('lets the transaction of an instance whose lease was lost end before the next one begins', async () => {
    const MIGRATIONS = slowMigration()
    const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
    const start = await environment(redis.url)
    const first = start({ MIGRATIONS })
    await line(first, /^in the middle$/)
    expect(await locks.forceRelease('shop:migrations')).toBe(true)
    const next = start({ MIGRATIONS })
    // What the first one had begun is committed; that it lost its lock meanwhile is an error to it.
    expect(await first.ended).toMatchObject({ code: 1, stderr: expect.stringContaining('LOCK_LOST') })
    expect(await next.ended).toMatchObject({ code: 0, stdout: 'nothing to migrate\nserving 25 orders\n' })
  })
})

// Prisma's command needs its schema engine, which is not on npm: a stand-in takes its place.
describe('migrations by a command', () => {
  function standIn(seconds: number): { log: () => string[]; args: string[] } {
    const folder = tempDir()
    const [file, log] = [join(folder, 'stand-in-for-prisma.mjs'), join(folder, 'log')]
    // Like Prisma's command, it has a child that does the work.
    const engine = `
      const { appendFileSync } = require('node:fs')
      const say = (text) => appendFileSync(process.argv[1], text + ' ' + process.pid + '\\n')
      process.on('SIGTERM', () => setTimeout(() => { say('stopped'); process.exit(1) }, 500))
      say('begins')
      setTimeout(() => say('ends'), ${seconds * 1000})`
    writeFileSync(
      file,
      `import { spawn } from 'node:child_process'
       import { once } from 'node:events'
       const engine = spawn(process.execPath, ['-e', ${JSON.stringify(engine)}, process.argv[3]])
       process.exitCode = (await once(engine, 'exit'))[0]`,
    )
    writeFileSync(log, '')
    return {
      log: () => readFileSync(log, 'utf8').trim().split('\n'),
      args: [process.execPath, file, 'deploy', log],
    }
  }
  const start = (args: string[]) =>
    startExample('migrations/command.mjs', { env: { REDIS_URL: redis.url }, args })

  it('runs the command on one instance after the other', async () => {
    const { log, args } = standIn(0.3)
    const endings = await Promise.all([start(args), start(args), start(args)].map((each) => each.ended))
    for (const ending of endings) expect(ending).toMatchObject({ code: 0, stderr: '' })
    const steps = log().map((entry) => entry.split(' '))
    expect(steps.map(([step]) => step)).toEqual(['begins', 'ends', 'begins', 'ends', 'begins', 'ends'])
    expect(new Set(steps.map(([, pid]) => pid)).size).toBe(3)
  })

  it.each(['a loss', 'SIGTERM'])('ends the command and its children after %s', async (cause) => {
    const { log, args } = standIn(20)
    const locks = closing(new LockManager({ redis: { url: redis.url, replicas: 0 } }))
    const instance = start(args)
    await eventually('it runs', () => log()[0]?.startsWith('begins'))
    if (cause === 'SIGTERM') void instance.kill('SIGTERM')
    else await locks.forceRelease('shop:migrations')
    expect(await instance.ended).toMatchObject({ code: 1, stderr: expect.stringMatching(/^not migrated: /) })
    // The command ends at once, its child half a second later, and the lock is kept until then.
    expect(log().map((entry) => entry.split(' ')[0])).toEqual(['begins', 'stopped'])
  })
})
