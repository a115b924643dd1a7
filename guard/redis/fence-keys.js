'use strict'

/**
 * The keys of a fence. Before the first brace of a key of a lock there is a colon or an x, whatever its
 * prefix: never a `guard`. Behind the first closing brace there is a colon in the key of a token, and never
 * in that of an owner.
 */

/**
 * The key of the token.
 * @param {string} prefix
 * @param {string} name of the resource
 */
function fenceKey(prefix, name) {
  return `${prefix}:guard{${hashTag(name)}}:${name}`
}

/**
 * The key of its owner.
 * @param {string} prefix
 * @param {string} name of the resource
 */
function ownerKey(prefix, name) {
  return `${prefix}:guard{${hashTag(name)}}owner:${name}`
}

/**
 * The hash tag that Redis finds in a name, or the whole name: it puts the fence into the slot of the data of
 * that name.
 * @param {string} name
 */
function hashTag(name) {
  const tag = /^\{([^}]+)\}/.exec(name.slice(name.indexOf('{')))?.[1]
  if (tag !== undefined) return tag
  // A tag ends at the first closing brace, so a name that contains one cannot be a tag.
  return name.includes('}') ? Buffer.from(name).toString('hex') : name
}

module.exports = { fenceKey, ownerKey }
