/**
 * `npm run docs:watch-picture`: draws docs/images/watch.svg again, from what `fencelock watch` shows of real
 * locks in a pseudo-terminal.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { PlainError, root, runMain } from '../lib/shell.mjs'
import { python } from '../lib/tools.mjs'

const { LockManager } = /** @type {typeof import('../../index.js')} */ (
  createRequire(import.meta.url)('../../index.js')
)

const target = join(root, 'docs/images/watch.svg')
const [columns, rows] = [80, 9]
const limitMs = 10_000

/** Who holds what, for how long, and how many wait. @type {[string, string, number, number][]} */
const scene = [
  ['worker-1:4101', 'invoice:42', 9_500, 2],
  ['worker-2:3877', 'invoice:43', 8_200, 0],
  ['worker-2:3877', 'nightly-report', 28_000, 1],
  ['deployer', 'deploy:web', 595_000, 3],
]

await runMain(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fencelock-picture-'))
  /** @type {InstanceType<typeof LockManager>[]} */
  const managers = []
  const manager = (/** @type {string} */ holderName) => {
    const locks = new LockManager({ local: join(folder, 'locks.sqlite'), holderName })
    managers.push(locks)
    return locks
  }
  try {
    for (const [holderName, resource, ttlMs, waiters] of scene) {
      await manager(holderName).acquireLocal(resource, { ttlMs })
      for (let index = 0; index < waiters; index++) {
        // It ends with its manager.
        manager('waiter')
          .acquireLocal(resource, { waitMs: 60_000, fair: true })
          .catch(() => undefined)
      }
    }
    const frame = await watched(
      folder,
      (lines) => lines.join('\n').includes('4 locks') && showsWaiters(lines),
    )
    writeFileSync(target, picture(frame))
  } finally {
    await Promise.all(managers.map((each) => each.close({ drainMs: 0 })))
    rmSync(folder, { recursive: true, force: true })
  }
})

/** @param {string[]} lines */
function showsWaiters(lines) {
  return scene.every(([name, resource, , waiters]) =>
    lines.some((line) => line.startsWith(resource) && line.includes(name) && line.endsWith(` ${waiters}`)),
  )
}

/**
 * Runs `fencelock watch` until a frame is as wished.
 *
 * @param {string} folder @param {(lines: string[]) => boolean} isDone
 * @returns {Promise<string[]>} the lines of the frame
 */
async function watched(folder, isDone) {
  const command = [process.execPath, join(root, 'bin/fencelock.js'), 'watch', '--local', 'locks.sqlite']
  const args = [join(root, 'scripts/lib/terminal.py'), String(columns), String(rows), ...command]
  const terminal = spawn(python() ?? 'python3', [...args, '--interval', '200ms'], {
    cwd: folder,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const timer = setTimeout(() => terminal.kill(), limitMs)
  let output = ''
  try {
    for await (const line of createInterface({ input: terminal.stdout })) {
      output += JSON.parse(line).output ?? ''
      // The last frame may be incomplete.
      const frame = output.split('\u001B[H').slice(1, -1).at(-1)
      // oxlint-disable-next-line no-control-regex -- They are what this removes.
      const lines = frame?.replaceAll(/\u001B\[[?\d;]*[A-Za-z]/g, '').split('\r\n') ?? []
      if (isDone(lines)) return lines
    }
  } finally {
    clearTimeout(timer)
    // The terminal goes away with it, and so does what runs in it.
    terminal.kill()
  }
  throw new PlainError(`fencelock watch did not show the locks\n${output}`)
}

/** @param {string[]} lines */
function picture(lines) {
  const [width, lineHeight, margin] = [columns * 8.4 + 32, 20, 16]
  const height = lines.length * lineHeight + 2 * margin
  const texts = lines.map((line, index) => {
    const kind = index === 2 ? ' class="head"' : ''
    return `<text x="${margin}" y="${margin + 14 + index * lineHeight}"${kind} xml:space="preserve">${escaped(line)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>fencelock watch: a table of locks with their holders, tokens, remaining times and waiters</title>
<style>
  text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace; fill: #e6edf3 }
  .head { font-weight: 700 }
</style>
<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>
${texts.join('\n')}
</svg>
`
}

/** @param {string} text */
function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
