'use strict'

/**
 * What is not UTF-8 in arguments and variables. The runtimes replace such bytes by U+FFFD before a program
 * sees them, and pass that on: the command would get another name than its caller wrote.
 */

const { UsageError } = require('../exit-codes.js')

const REPLACEMENT = '\uFFFD'

/**
 * The text as the kernel has it, which only Linux tells.
 * @param {'cmdline' | 'environ'} name
 */
function original(name) {
  const { readFileSync } = require('node:fs')
  try {
    return readFileSync(`/proc/self/${name}`)
  } catch {
    return undefined
  }
}

/**
 * The character itself is in order, where it can be told from what it replaces.
 * @param {readonly string[]} args
 */
function refuseReplaced(args) {
  if (!args.some((arg) => arg.includes(REPLACEMENT))) return
  const { isUtf8 } = require('node:buffer')
  const bytes = original('cmdline')
  if (bytes !== undefined && isUtf8(bytes)) return
  throw new UsageError(
    'an argument is not UTF-8, and would be changed: let a shell make it, as in ' +
      `fencelock run <resource> -c 'cat "$(printf "caf\\351")"'`,
  )
}

/**
 * The variables that the command gets changed.
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]} their names
 */
function replacedVariables(env) {
  const suspicious = Object.keys(env).filter((name) => `${name}=${env[name]}`.includes(REPLACEMENT))
  if (suspicious.length === 0) return suspicious
  const bytes = original('environ')
  if (bytes === undefined) return suspicious
  const intact = new Set(bytes.toString('latin1').split('\0'))
  return suspicious.filter((name) => !intact.has(Buffer.from(`${name}=${env[name]}`).toString('latin1')))
}

module.exports = { refuseReplaced, replacedVariables }
