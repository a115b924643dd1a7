'use strict'

/** How the headers are written and read. */

const { MAX_RESOURCES, MAX_RESOURCE_BYTES } = require('../../lib/options/names.js')

/** @import { Lease } from '../core/token.js' */

const TOKEN = 'Fencing-Token'
const RESOURCE = 'Fencing-Resource'
const OWNER = 'Fencing-Owner'

/** The tokens of locks are lower. */
const TOKEN_LIMIT = 2n ** 53n

/** Visible ASCII without the comma, which separates, and `%` only before two hexadecimal digits. */
const ENCODED = /^(?:[!-$&-+\--~]|%[\dA-Fa-f]{2})+$/

/** Of a hash of the owner. */
const HASH = /^[\dA-Fa-f]{16}$/

/** @param {Lease} lease */
function writeFencing({ names, token, owner }) {
  return {
    [TOKEN]: String(token),
    [RESOURCE]: names.map((name) => encodeURIComponent(name)).join(','),
    ...(owner !== undefined && { [OWNER]: owner }),
  }
}

/**
 * @param {string | undefined} token the value of the header; several headers of one name are joined by commas
 * @param {string | undefined} resource
 * @param {string | undefined} owner
 * @returns {{ token: bigint, resources: string[], ownerHash?: string, fault?: undefined }
 *   | { fault: string }}
 */
function readFencing(token, resource, owner) {
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
  // Callers of an earlier version send none.
  if (owner === undefined) return { token: BigInt(token), resources }
  if (!HASH.test(owner)) return { fault: `${OWNER} must have 16 hexadecimal digits` }
  return { token: BigInt(token), resources, ownerHash: owner.toLowerCase() }
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

module.exports = { OWNER, RESOURCE, TOKEN, readFencing, writeFencing }
