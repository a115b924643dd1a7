'use strict'

/**
 * Whether a client has these methods. Clients are recognized by them, so that fencelock depends on none of
 * them.
 * @template {string} Name
 * @param {object} client
 * @param {...Name} names
 * @returns {client is { [K in Name]: Function }}
 */
function hasMethods(client, ...names) {
  return names.every((name) => typeof Reflect.get(client, name) === 'function')
}

module.exports = { hasMethods }
