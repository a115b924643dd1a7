/**
 * The writes that guards are measured with: the caller's own write, and the same through the guard.
 */
import { createServer } from 'node:http'
import { join } from 'node:path'

import guards from '../../guard/index.js'
import { openClient, TABLE } from '../../scripts/sql-clients/index.mjs'
import { load } from './common.mjs'

const { fencingHeaders, httpFence, redisGuard } = guards

/**
 * @typedef {object} Writes each does one
 * @property {() => unknown} own
 * @property {() => unknown} [byHand] the same with a hand-written check of the token, which is one more
 *   statement
 * @property {() => unknown} guarded
 * @property {() => unknown} close
 */

/**
 * @typedef {object} GuardedPlace where its store is
 * @property {import('../../scripts/servers/sql.mjs').Server | null} postgres null: not installed
 * @property {import('../../scripts/servers/sql.mjs').Server | null} mariadb likewise
 * @property {number} redis a port
 * @property {string} folder of its own
 */

/**
 * @typedef {object} Guarded
 * @property {string} id
 * @property {'postgres' | 'mariadb' | 'redis' | 'sqlite'} store
 * @property {string} own what is done without the guard
 * @property {(place: GuardedPlace) => Promise<Writes>} open
 */

const transaction = 'BEGIN, UPDATE, COMMIT'

/** @type {Guarded[]} */
export const guarded = [
  ...['pg', 'pg.Client', 'postgres', 'Bun.sql'].map((id) => sql('postgres', id)),
  ...['mysql2', 'mysql2 connection', 'mariadb', 'mariadb connection', 'Bun.sql (MySQL)'].map((id) =>
    sql('mariadb', id),
  ),
  ...['better-sqlite3', 'node:sqlite', 'bun:sqlite'].map((id) => sql('sqlite', id)),
  { id: 'ioredis', store: 'redis', own: 'SET', open: ({ redis }) => openRedis('ioredis', redis) },
  { id: 'redis', store: 'redis', own: 'SET', open: ({ redis }) => openRedis('redis', redis) },
  { id: 'HTTP', store: 'redis', own: 'a request', open: ({ redis }) => openHttp(redis) },
]

/** @param {string} id */
export function findGuarded(id) {
  const found = guarded.find((each) => each.id === id)
  if (!found) throw new Error(`there is no guarded store ${id}`)
  return found
}

/** @param {'postgres' | 'mariadb' | 'sqlite'} store @param {string} id @returns {Guarded} */
function sql(store, id) {
  return { id, store, own: transaction, open: (place) => openSql(store, id, place) }
}

/**
 * @param {'postgres' | 'mariadb' | 'sqlite'} store
 * @param {string} id
 * @param {GuardedPlace} place
 * @returns {Promise<Writes>}
 */
async function openSql(store, id, place) {
  const server = store === 'sqlite' ? join(place.folder, 'data.sqlite') : place[store]
  if (server === null) throw new Error(`there is no ${store}`)
  const client = await openClient(id, server)
  const guard = client.guard()
  await guard.migrate()
  await client.direct(TABLE)
  // Several subjects write to one server, each to rows of its own.
  const [row, fence] = [`${id} row`, `${id} fence`]
  await client.direct(`DELETE FROM data WHERE id IN ('${row}', '${fence}')`)
  await client.direct(`INSERT INTO data VALUES ('${row}', 0), ('${fence}', 0)`)
  const isSync = store === 'sqlite'
  const write = (/** @type {any} */ tx) =>
    client.rows(tx, `UPDATE data SET value = value + 1 WHERE id = '${row}'`)
  const check = (/** @type {any} */ tx) =>
    client.rows(tx, `UPDATE data SET value = ${token} WHERE id = '${fence}' AND value <= ${token}`)
  const checked = isSync
    ? (/** @type {any} */ tx) =>
        (check(tx), write(tx))
    : async (/** @type {any} */ tx) => {
        await check(tx)
        await write(tx)
      }
  let token = Date.now()
  return {
    own: () => client.transaction(write),
    byHand() {
      token++
      return client.transaction(checked)
    },
    guarded() {
      const lock = { resource: id, token: BigInt(++token) }
      return isSync ? guard.runSync(lock, write) : guard.run(lock, write)
    },
    close: () => client.end(),
  }
}

/** @param {'ioredis' | 'redis'} name @param {number} port @returns {Promise<Writes>} */
async function openRedis(name, port) {
  const { default: Redis, createClient } = await load(name)
  const client =
    name === 'redis' ? createClient({ socket: { host: '127.0.0.1', port } }) : new Redis(port, '127.0.0.1')
  if (name === 'redis') await client.connect()
  const guard = redisGuard({ client })
  let token = BigInt(Date.now())
  return {
    own: () => client.set(name, '1'),
    guarded: () => guard.set({ resource: name, token: ++token }, name, '1'),
    close: () => (name === 'redis' ? client.destroy() : client.disconnect()),
  }
}

/**
 * Requests to a service in this process that does nothing, with and without the fence, which is in Redis.
 *
 * @param {number} port
 * @returns {Promise<Writes>}
 */
async function openHttp(port) {
  const { default: Redis } = await load('ioredis')
  const client = new Redis(port, '127.0.0.1')
  const fence = httpFence(redisGuard({ client }))
  const server = createServer((request, response) => {
    if (request.url === '/own') response.end('done')
    else fence.node(request, response, (error) => response.writeHead(error ? 500 : 200).end('done'))
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
  const { port: own } = /** @type {import('node:net').AddressInfo} */ (server.address())
  let token = BigInt(Date.now())
  const put = async (/** @type {string} */ path, /** @type {Record<string, string>} */ headers) => {
    const response = await fetch(`http://127.0.0.1:${own}${path}`, { method: 'PUT', headers })
    if (!response.ok || (await response.text()) !== 'done')
      throw new Error(`the response has status ${response.status}`)
  }
  return {
    own: () => put('/own', {}),
    guarded: () => put('/guarded', fencingHeaders({ resource: 'http', token: ++token })),
    close() {
      server.closeAllConnections()
      server.close()
      client.disconnect()
    },
  }
}
