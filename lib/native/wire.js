'use strict'

/**
 * The records of doubles that JavaScript and the addon exchange: the places of their fields, the kinds of
 * completions, and the numbers of the strategies. The addon defines them, in src/wire.rs.
 *
 * Copy what a loop needs into constants of the module: a property of this object costs a look-up each time.
 */
module.exports = require('./load.js').wire()
