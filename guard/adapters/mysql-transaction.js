'use strict'

/**
 * A transaction of the clients `mysql2` and `mariadb`.
 *
 * START TRANSACTION and the fence are handed to the client at once: `mariadb` sends them in one go; `mysql2` sends a
 * command when the one before was answered, so there the fence costs a round trip.
 */
async function mysqlTransaction(client, isPool, query, work, { fence, isolation }) {
  const tx = isPool ? await client.getConnection() : client
  let broken = false
  try {
    const begin = [
      ...(isolation === undefined ? [] : [`SET TRANSACTION ISOLATION LEVEL ${isolation}`]),
      'START TRANSACTION',
      ...(fence === undefined ? [] : [fence]),
    ]
    const answers = await settled(begin.map((text) => query(tx, text)))
    const value = await work(tx, fence === undefined ? undefined : answers.at(-1))
    await query(tx, 'COMMIT')
    return value
  } catch (error) {
    await query(tx, 'ROLLBACK').catch(() => (broken = true))
    throw error
  } finally {
    // A connection whose state nobody knows must not be used again.
    if (isPool && broken) await tx.destroy()
    else if (isPool) await tx.release()
  }
}

/** All of them must have ended before anything else is done on the connection. */
async function settled(promises) {
  const results = await Promise.allSettled(promises)
  const failed = results.find(({ status }) => status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return results.map(({ value }) => value)
}

module.exports = { mysqlTransaction }
