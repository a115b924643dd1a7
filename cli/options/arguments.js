'use strict'

/** Arguments: how options are defined, and how they are read. */

const { parseArgs } = require('node:util')

const { UsageError } = require('../exit-codes.js')

/**
 * @typedef {object} Option
 * @property {'boolean' | 'string'} type
 * @property {string} text what it does, for the help
 * @property {string} [short]
 * @property {string} [value] what stands for the value in the help
 * @property {readonly string[]} [choices] the only values
 * @property {'file'} [completes] what a shell proposes as its value
 * @property {boolean} [multiple] may be repeated
 * @property {string} [variable] the environment variable that it replaces
 */
/** @typedef {Readonly<Record<string, Option>>} Options */

/**
 * What a command was called with.
 * @typedef {object} Call
 * @property {Readonly<Record<string, string | boolean | string[] | undefined>>} values
 * @property {readonly string[]} operands
 * @property {readonly string[] | undefined} command what follows `--`
 * @property {NodeJS.ProcessEnv} env
 */
/**
 * All, by their names.
 * @typedef {Readonly<Record<string, { summary: string, load: () => Command }>>} Commands
 */

/**
 * @typedef {object} Command
 * @property {string} usage behind the command's name
 * @property {readonly string[]} description paragraphs
 * @property {readonly { title: string, options: Options }[]} groups
 * @property {readonly (readonly [string, string])[]} statuses and what they mean
 * @property {readonly (readonly [string, string])[]} examples what each does, and the line
 * @property {(call: Call & { commands: Commands }) => Promise<number>} run resolves with the exit status
 */

/** @type {Options} */
const COMMON = {
  json: { type: 'boolean', text: 'print JSON; cli/schema.json in the package describes it' },
  help: { type: 'boolean', short: 'h', text: 'show this help' },
}

/**
 * @param {Command} command
 * @returns {Options}
 */
function optionsOf(command) {
  return Object.fromEntries(command.groups.flatMap(({ options }) => Object.entries(options)))
}

/**
 * @param {Options} options
 * @param {readonly string[]} args without the command's name
 * @param {NodeJS.ProcessEnv} env
 * @returns {Call}
 */
function readArguments(options, args, env) {
  const end = args.indexOf('--')
  const own = end === -1 ? args : args.slice(0, end)
  // What node:util finds wrong it says in words of its own, which differ between runtimes.
  const { tokens } = parseArgs({
    args: [...own],
    options: Object.fromEntries(
      Object.entries(options).map(([name, { type, short, multiple = false }]) => [
        name,
        { type, multiple, ...(short !== undefined && { short }) },
      ]),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  })
  /** @type {Record<string, string | boolean | string[]>} */
  const values = {}
  /** @type {string[]} */
  const operands = []
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value)
    if (token.kind === 'option') {
      const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined
      if (option === undefined) throw unknownOption(token.name, token.rawName, options)
      const value = valueOf(option, token)
      if (option.multiple) values[token.name] = [...repeated(values[token.name]), String(value)]
      else values[token.name] = value
    }
  }
  return { values, operands, command: end === -1 ? undefined : args.slice(end + 1), env }
}

/** @param {unknown} value */
function repeated(value) {
  return Array.isArray(value) ? /** @type {string[]} */ (value) : []
}

/**
 * @param {Option} option
 * @param {{ rawName: string, value?: string | undefined, inlineValue?: boolean | undefined }} token
 */
function valueOf({ type, choices, value: placeholder = 'value' }, { rawName, value, inlineValue }) {
  if (type === 'boolean') {
    if (value !== undefined) throw new UsageError(`${rawName} takes no value`)
    return true
  }
  if (value === undefined || (!inlineValue && value.startsWith('-') && value.length > 1)) {
    throw new UsageError(`${rawName} needs a value: ${rawName} <${placeholder}>`)
  }
  if (choices !== undefined && !choices.includes(value)) {
    throw new UsageError(`${rawName} must be one of ${choices.join(', ')}`)
  }
  return value
}

/**
 * Never with the value, which may be a secret.
 * @param {string} name
 * @param {string} rawName
 * @param {Options} options
 */
function unknownOption(name, rawName, options) {
  if (/pass(?:word)?$/.test(name)) {
    return new UsageError(
      `${rawName} does not exist, because arguments are visible to every user of the host: ` +
        'use FENCELOCK_PASSWORD, or --password-file',
    )
  }
  const known = Object.keys(options).find((each) => each.startsWith(name) || name.startsWith(each))
  const hint = known !== undefined && name.length > 1 ? `; did you mean --${known}?` : ''
  return new UsageError(`unknown option ${rawName}${hint}`)
}

/**
 * @param {Call} call
 * @param {string} name
 * @returns {string | undefined}
 */
function text({ values }, name) {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}

/**
 * The one resource that a command is about.
 * @param {Call} call
 * @returns {string}
 */
function onlyResource({ operands, command }) {
  // A resource may begin with a dash.
  const all = command === undefined ? operands : [...operands, ...command]
  const [resource] = all
  if (resource === undefined) throw new UsageError('a resource is missing')
  if (all.length > 1) throw new UsageError('too many arguments: one resource is expected')
  return resource
}

/**
 * What the names of the resources begin with that a command is about.
 * @param {Call} call
 */
function startOperand({ operands, command }) {
  const [start = '', ...rest] = command === undefined ? operands : [...operands, ...command]
  if (rest.length > 0) throw new UsageError('too many arguments: one start of names is expected')
  return start
}

/** @param {Call} call */
function noOperands({ operands, command }) {
  if (operands.length > 0 || command !== undefined) throw new UsageError('too many arguments')
}

/**
 * @param {string} name
 * @param {string} value
 * @param {{ min: number, max: number }} range
 */
function integer(name, value, { min, max }) {
  const number = /^\d{1,10}$/.test(value) ? Number(value) : -1
  if (number >= min && number <= max) return number
  throw new UsageError(`${name} must be an integer from ${min} to ${max}`)
}

module.exports = { COMMON, integer, noOperands, onlyResource, optionsOf, readArguments, startOperand, text }
