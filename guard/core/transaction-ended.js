'use strict'

/**
 * A transaction that was over before the guard ended it: the callback committed or rolled back, a statement of MySQL did
 * (DDL commits; a dead-lock rolls back, also when its error is caught). What came after was written by itself, not fenced.
 */
class TransactionEnded extends Error {}

module.exports = { TransactionEnded }
