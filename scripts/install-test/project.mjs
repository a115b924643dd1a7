/**
 * A new project, in which a case installs packages and runs programs.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { npmCall, PlainError, run } from '../lib/shell.mjs'

/** Acquires a lock and prints its token. The manager stays open, and the process must exit nevertheless. */
const use = `
  const locks = new LockManager({ local: 'locks.sqlite' })
  const lock = await locks.acquireLocal('install', { waitMs: 10_000 })
  if (fencingHeaders(lock)['Fencing-Token'] !== String(lock.token)) throw new Error('another token')
  if (!(await lock.release())) throw new Error('lost')
  await (await hold(locks, 'other')).release()
  console.log('token ' + lock.token)`

/** A program for each module system. */
export const programs = {
  'use.mjs': `import { LockManager } from 'fencelock'
import { fencingHeaders } from 'fencelock/guard'
import { hold } from 'fencelock/testing'
${use}
`,
  'use.cjs': `const { LockManager } = require('fencelock')
const { fencingHeaders } = require('fencelock/guard')
const { hold } = require('fencelock/testing')
void (async () => {${use}
})()
`,
}

/** The output of a program that acquired a lock. */
export const took = /^token \d{16}$/m

/** Something that this machine lacks: the case is skipped. */
export class LeftOut extends PlainError {}

export class Project {
  /** @param {string} folder @param {string} registry @param {NodeJS.ProcessEnv} env */
  constructor(folder, registry, env) {
    this.folder = folder
    this.env = env
    mkdirSync(folder, { recursive: true })
    this.write({
      'package.json': JSON.stringify({ name: 'user', version: '1.0.0', private: true }),
      // npm, pnpm, Bun and Deno read it.
      '.npmrc': `registry=${registry}\naudit=false\nfund=false\nupdate-notifier=false\n`,
      ...programs,
    })
  }

  /** @param {Record<string, string>} files */
  write(files) {
    for (const [name, content] of Object.entries(files)) {
      const file = join(this.folder, name)
      mkdirSync(join(file, '..'), { recursive: true })
      writeFileSync(file, content)
    }
  }

  /**
   * Runs a program to its end and returns its output. It throws if the program fails or does not end in time.
   *
   * @param {string} command
   * @param {string[]} args
   * @param {{ limitMs?: number, env?: NodeJS.ProcessEnv, fails?: boolean }} [options] `fails`: it must fail
   */
  async exec(command, args, { limitMs = 120_000, env = {}, fails = false } = {}) {
    let output = ''
    const options = { cwd: this.folder, env: { ...this.env, ...env }, limitMs, quiet: true }
    const call = command === 'npm' ? npmCall(args) : { command, args, shell: false }
    const { ok, why } = await run(call.command, call.args, {
      ...options,
      shell: call.shell,
      onOutput: (text) => (output += text),
    })
    const line = [command, ...args].join(' ')
    if (fails && ok) throw new PlainError(`${line}\nshould have failed\n${output}`)
    if (fails ? why.startsWith('no end') : !ok) throw new PlainError(`${line}\n${why}\n${output}`)
    return output
  }

  /**
   * Runs programs that acquire a lock.
   *
   * @param {string} command
   * @param {...string[]} calls the arguments of each
   */
  async take(command, ...calls) {
    for (const args of calls) {
      const output = await this.exec(command, args, { limitMs: 30_000 })
      if (!took.test(output)) throw new PlainError(`${command} ${args.join(' ')} took no lock\n${output}`)
    }
  }
}
