'use strict'

/** `fencelock/testing`: what happens to locks in life, on purpose, for tests of the code that uses them. */

const { hold } = require('./hold.js')
const { delay, fail } = require('./interference.js')
const { expire, lose } = require('./loss.js')

/**
 * Spelled out, so that ES modules can import each by its name.
 * @satisfies {typeof import('./index.js')}
 */
module.exports = { delay, expire, fail, hold, lose }
