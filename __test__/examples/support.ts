/** The programs of `examples/`, as processes on the runtime under test. */
import { resolve } from 'node:path'
import { vi } from 'vitest'

import { startScript, type Script, type ScriptOptions } from '../fixtures/processes/processes'
import { eventually, root } from '../fixtures/temp'

// Frameworks take seconds to start on a busy machine.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 })

/** Starts a program of `examples/`, such as `cron-job/index.mjs`, or a built one. It ends with the test. */
export function startExample(program: string, options: ScriptOptions = {}): Script {
  return startScript(resolve(root, 'examples', program), { limitMs: 90_000, ...options })
}

/** Waits for a line of a program's output, and returns its match. */
export async function line(script: Script, pattern: RegExp, limitMs = 30_000): Promise<RegExpExecArray> {
  let ended = false
  void script.ended.then(() => (ended = true))
  const find = () => {
    // Asked before the output is read: nothing is printed after the end.
    const last = ended
    const match = lines(script, pattern)[0]
    if (match === undefined && last) throw new Error(`it ended without a line like ${pattern}`)
    return match
  }
  try {
    return await eventually(`a line like ${pattern}`, find, limitMs)
  } catch (error) {
    throw new Error(`${String(error)}\n${script.stdout}${script.stderr}`, { cause: error })
  }
}

/** The matches of all lines so far. */
export function lines(script: Script, pattern: RegExp): RegExpExecArray[] {
  return script.stdout
    .split('\n')
    .map((text) => pattern.exec(text))
    .filter((match) => match !== null)
}
