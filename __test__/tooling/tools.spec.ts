/** How the scripts find the programs that they start. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'

import { find, need } from '../../scripts/lib/tools.mjs'
import { tempDir } from '../fixtures/temp'

afterEach(() => vi.unstubAllEnvs())

describe.skipIf(process.platform === 'win32')('pip', () => {
  /** Sets a PATH with this as its only program, and therefore without a package manager. */
  function onlyPython(script: string): string {
    const folder = tempDir()
    writeFileSync(join(folder, 'python3'), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, 'python3'), 0o755)
    vi.stubEnv('PATH', folder)
    return join(folder, 'python3')
  }

  it('is reported as missing where Python lacks it', async () => {
    onlyPython('echo "No module named pip" >&2; exit 1')
    await expect(need('pip')).rejects.toThrow('pip is missing: apt install python3-pip')
  })

  it('is run by the Python that has it', async () => {
    const python = onlyPython('[ "$*" = "-m pip --version" ] && echo "pip 24.0"')
    expect(await need('pip')).toBe(python)
  })
})

describe.skipIf(process.platform !== 'linux')('the browser', () => {
  it('is found under another name of its own', async () => {
    const folder = tempDir()
    vi.stubEnv('PATH', folder)
    expect(await find('chromium')).toBeNull()
    writeFileSync(join(folder, 'chromium-browser'), '#!/bin/sh\n')
    chmodSync(join(folder, 'chromium-browser'), 0o755)
    expect(await find('chromium')).toBe(join(folder, 'chromium-browser'))
  })
})
