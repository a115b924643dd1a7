'use strict'

/** `fencelock completion`: scripts that complete commands, options and their values in a shell. */

const { COMMON, optionsOf } = require('../options/arguments.js')
const { EXIT, UsageError } = require('../exit-codes.js')
const { print } = require('../output/print.js')

/** @import { Command, Commands, Options } from '../options/arguments.js' */

/** @typedef {{ name: string, summary: string, options: Options, words: readonly string[] }} Known */

/** @type {Readonly<Record<string, (commands: readonly Known[]) => string>>} */
const SHELLS = { bash, zsh, fish }

/** @type {Command} */
module.exports = {
  usage: Object.keys(SHELLS).join('|'),
  description: ['Prints a script that completes the commands and options of fencelock in this shell.'],
  groups: [{ title: 'Options', options: { help: /** @type {Options[string]} */ (COMMON.help) } }],
  statuses: [
    ['0', 'it was printed'],
    ['64', 'wrong usage'],
  ],
  examples: [
    ['bash, in ~/.bashrc', 'eval "$(fencelock completion bash)"'],
    ['zsh, in ~/.zshrc, after compinit', 'eval "$(fencelock completion zsh)"'],
    ['fish', 'fencelock completion fish > ~/.config/fish/completions/fencelock.fish'],
  ],
  async run({ operands, command, commands }) {
    const [shell = ''] = operands
    if (!Object.hasOwn(SHELLS, shell) || operands.length > 1 || command !== undefined) {
      throw new UsageError(`name a shell: ${Object.keys(SHELLS).join(', ')}`)
    }
    print(SHELLS[shell]?.(known(commands)) ?? '')
    return EXIT.ok
  },
}

/**
 * @param {Commands} commands
 * @returns {Known[]}
 */
function known(commands) {
  return Object.entries(commands).map(([name, { summary, load }]) => ({
    name,
    summary,
    options: optionsOf(load()),
    words: name === 'completion' ? Object.keys(SHELLS) : [],
  }))
}

/** @param {Options} options */
function flags(options) {
  return Object.keys(options).map((name) => `--${name}`)
}

/**
 * @param {readonly Known[]} commands
 */
function bash(commands) {
  const merged = Object.fromEntries(commands.flatMap(({ options }) => Object.entries(options)))
  const values = Object.entries(merged).flatMap(([name, { type, choices, completes }]) => {
    if (type === 'boolean') return []
    const reply = choices
      ? `COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "$current"))`
      : completes === 'file'
        ? 'COMPREPLY=($(compgen -f -- "$current"))'
        : ':'
    return [`    --${name}) ${reply}; return ;;`]
  })
  const words = commands.map(({ name, options, words: own }) => {
    return `    ${name}) words='${[...flags(options), ...own].join(' ')}' ;;`
  })
  return `# fencelock completion for bash
_fencelock() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} words i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} == -- ]]; then
      # The command to run.
      if declare -F _command_offset > /dev/null; then _command_offset $((i + 1))
      else COMPREPLY=($(compgen -c -- "$current")); fi
      return
    fi
  done
  if [[ $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W '${commands.map(({ name }) => name).join(' ')} help --help --version' -- "$current"))
    return
  fi
  case $previous in
${values.join('\n')}
  esac
  case \${COMP_WORDS[1]} in
${words.join('\n')}
    help) words='${commands.map(({ name }) => name).join(' ')}' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _fencelock fencelock`
}

/** @param {readonly Known[]} commands */
function zsh(commands) {
  const cases = commands.map(({ name, options, words }) => {
    const lines = Object.entries(options).map(
      ([option, { type, text, value = 'value', choices, completes, multiple }]) => {
        const action = choices ? `(${choices.join(' ')})` : completes === 'file' ? '_files' : ' '
        const argument = type === 'boolean' ? '' : `:${value}:${action}`
        return `        '${multiple ? '*' : ''}--${option}[${zshText(text)}]${argument}'`
      },
    )
    const rest =
      words.length > 0
        ? `':shell:(${words.join(' ')})'`
        : name === 'run'
          ? "'*::command:_normal'"
          : "':resource: '"
    return `      ${name})\n      _arguments -S \\\n${[...lines, `        ${rest}`].join(' \\\n')}\n        ;;`
  })
  const names = commands.map(({ name, summary }) => `    '${name}:${zshText(summary)}'`)
  return `#compdef fencelock
# fencelock completion for zsh
_fencelock() {
  local -a commands=(
${names.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
  else
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
${cases.join('\n')}
    esac
  fi
}
compdef _fencelock fencelock`
}

/** @param {string} text */
function zshText(text) {
  return text.replaceAll("'", "'\\''").replaceAll(/[[\]:]/g, String.raw`\$&`)
}

/** @param {readonly Known[]} commands */
function fish(commands) {
  const lines = commands.flatMap(({ name, summary, options, words }) => {
    const inCommand = `complete -c fencelock -n '__fish_seen_subcommand_from ${name}'`
    return [
      `complete -c fencelock -n __fish_use_subcommand -f -a ${name} -d ${fishText(summary)}`,
      ...(words.length > 0 ? [`${inCommand} -f -a '${words.join(' ')}'`] : []),
      ...Object.entries(options).map(([option, { type, short, text, choices, completes }]) => {
        const argument =
          type === 'boolean'
            ? ''
            : choices
              ? ` -x -a '${choices.join(' ')}'`
              : completes === 'file'
                ? ' -r -F'
                : ' -x'
        const letter = short === undefined ? '' : ` -s ${short}`
        return `${inCommand} -l ${option}${letter}${argument} -d ${fishText(text)}`
      }),
    ]
  })
  return `# fencelock completion for fish\n${lines.join('\n')}`
}

/** @param {string} text */
function fishText(text) {
  return `'${text.replaceAll(/[\\']/g, String.raw`\$&`)}'`
}
