'use strict'

/** What the two headers hold, written and read. */

const TOKEN = 'Fencing-Token'
const RESOURCE = 'Fencing-Resource'

const MAX_RESOURCES = 1_000
const MAX_RESOURCE_BYTES = 512
/** No token of a lock reaches it. */
const TOKEN_LIMIT = 2n ** 53n

/** Visible ASCII without the comma, which separates, and with `%` before two digits only. */
const ENCODED = /^(?:[!-$&-+\--~]|%[\dA-Fa-f]{2})+$/

function writeFencing({ names, token }) {
  return { [TOKEN]: String(token), [RESOURCE]: names.map(encodeURIComponent).join(',') }
}

/**
 * @param {string | undefined} token what the header holds; several headers of one name joined by commas
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
  if (encoded.length > MAX_RESOURCES)
    return { fault: `${RESOURCE} must name at most ${MAX_RESOURCES} resources` }
  const resources = encoded.map(decode)
  if (resources.includes(undefined)) {
    return {
      fault:
        `${RESOURCE} must hold percent-encoded UTF-8 of 1 to ${MAX_RESOURCE_BYTES} bytes, ` +
        'several resources separated by commas',
    }
  }
  if (new Set(resources).size < resources.length) return { fault: `${RESOURCE} names a resource twice` }
  return { token: BigInt(token), resources }
}

/** The resource; undefined if it is none. */
function decode(text) {
  if (!ENCODED.test(text)) return undefined
  try {
    const name = decodeURIComponent(text)
    return new TextEncoder().encode(name).length > MAX_RESOURCE_BYTES ? undefined : name
  } catch {
    // Bytes that are no UTF-8.
    return undefined
  }
}

module.exports = { RESOURCE, TOKEN, readFencing, writeFencing }
