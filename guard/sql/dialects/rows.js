'use strict'

/** Rows of the table of the fences. */

/** @import { SqlAnswer } from '../../index.js' */
/** @import { Stored } from './dialect.js' */

/** The columns of the owner: its hash, and the token that it belongs to. */
const OWNER_COLUMNS = /** @type {const} */ (['owner', 'owner_token'])

/**
 * What rows say, which contain the key in hexadecimal and the numbers as text.
 * @param {SqlAnswer['rows']} rows
 * @returns {Map<string, Stored>}
 */
function storedIn(rows = []) {
  return new Map(
    rows.map(({ resource, token, owner }) => [
      resource.toLowerCase(),
      { token: BigInt(token), owner: owner === undefined || owner === null ? undefined : BigInt(owner) },
    ]),
  )
}

/**
 * The columns of the owner that a table does not have.
 * @param {SqlAnswer | undefined} answer to the statement `columns` of a dialect
 */
function missingColumns(answer) {
  const present = new Set(
    (answer?.rows ?? []).map(({ name, Field }) => /** @type {unknown} */ (name ?? Field)),
  )
  return OWNER_COLUMNS.filter((column) => !present.has(column))
}

module.exports = { missingColumns, storedIn }
