'use strict'

/** How the two headers are written and read. */

const { MAX_RESOURCES, MAX_RESOURCE_BYTES } = require('../../lib/options/names.js')

/** @import { Lease } from '../core/token.js' */

const TOKEN = 'Fencing-Token'
const RESOURCE = 'Fencing-Resource'

/** The tokens of locks are lower. */
const TOKEN_LIMIT = 2n ** 53n

/** Visible ASCII without the comma, which separates, and `%` only before two hexadecimal digits. */
const ENCODED = /^(?:[!-$&-+\--~]|%[\dA-Fa-f]{2})+$/

/** @param {Lease} lease */
function writeFencing({ names, token }) {
  return { [TOKEN]: String(token), [RESOURCE]: names.map((name) => encodeURIComponent(name)).join(',') }
}

/**
 * @param {string | undefined} token the value of the header; several headers of one name are joined by commas
 * @param {string | undefined} resource
 * @returns {{ token: bigint, resources: string[], fault?: undefined } | { fault: string }}
 */
function readFencing(token, resource) {
  if (token === undefined) return { fault: `the header ${TOKEN} is missing` }
  if (resource === undefined) return { fault: `the header ${RESOURCE} is missing` }
  if (!/^[1-9]\d{0,15}$/.test(token) || BigInt(token) >= TOKEN_LIMIT) {
    return {
      fault: `${TOKEN} must be one decimal from 1 to ${TOKEN_LIMIT - 1n}, without sign and leading zeros`,
    }
  }
  const encoded = resource.split(',').map((part) => part.replaceAll(/^[ \t]+|[ \t]+$/g, ''))
  if (encoded.length > MAX_RESOURCES) {
    return { fault: `${RESOURCE} must name at most ${MAX_RESOURCES} resources` }
  }
  const resources = encoded.map((text) => decode(text)).filter((name) => name !== undefined)
  if (resources.length < encoded.length) {
    return {
      fault:
        `${RESOURCE} must hold percent-encoded UTF-8 of 1 to ${MAX_RESOURCE_BYTES} bytes, ` +
        'several resources separated by commas',
    }
  }
  if (new Set(resources).size < resources.length) return { fault: `${RESOURCE} names a resource twice` }
  return { token: BigInt(token), resources }
}

/**
 * The resource; undefined if the text is not one.
 * @param {string} text
 */
function decode(text) {
  if (!ENCODED.test(text)) return undefined
  try {
    const name = decodeURIComponent(text)
    return Buffer.byteLength(name) > MAX_RESOURCE_BYTES ? undefined : name
  } catch {
    // The bytes are not UTF-8.
    return undefined
  }
}

module.exports = { RESOURCE, TOKEN, readFencing, writeFencing }
