/**
 * A temporary registry on loopback. It has the packed tarballs, and gets everything else from the registry
 * that npm is configured with.
 */
import { spawn } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { capture, npmCall, PlainError, root, run } from '../lib/shell.mjs'
import { freePort } from '../servers/free-port.mjs'

/**
 * @param {string} folder for its files
 * @param {string} node a Node.js that it runs on: 22 or newer
 * @returns {Promise<{ url: string, stop: () => Promise<void> }>}
 */
export async function startRegistry(folder, node) {
  const version = (await capture(node, ['--version'])) ?? ''
  if (Number(/^v(\d+)/.exec(version)?.[1]) < 22) {
    throw new PlainError(`the registry of the install tests needs Node.js 22 or newer; this is ${version}`)
  }
  const ask = npmCall(['config', 'get', 'registry'])
  const upstream = await capture(ask.command, ask.args, { shell: ask.shell })
  if (!upstream) throw new PlainError('npm config get registry failed')
  const port = await freePort()
  const config = join(folder, 'registry.json')
  const ours = { access: '$all', publish: '$all' }
  // JSON is valid YAML.
  writeFileSync(
    config,
    JSON.stringify({
      storage: join(folder, 'storage'),
      web: { enable: false },
      uplinks: { upstream: { url: upstream } },
      // The first match counts: a published fencelock is never looked up.
      packages: {
        fencelock: ours,
        '@fencelock/*': ours,
        '**': { access: '$all', proxy: 'upstream' },
      },
      log: { type: 'stdout', format: 'pretty', level: 'error' },
    }),
  )
  const program = join(root, 'scripts/install-test/node_modules/verdaccio/bin/verdaccio')
  const child = spawn(node, [program, '--config', config, '--listen', `127.0.0.1:${port}`], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const hear = (/** @type {Buffer} */ data) => (output += String(data))
  child.stdout.on('data', hear)
  child.stderr.on('data', hear)
  const ended = new Promise((resolve) => child.once('close', resolve))
  // Also when the script is interrupted.
  const stopNow = () => child.kill()
  process.once('exit', stopNow)
  const url = `http://127.0.0.1:${port}/`
  for (const end = Date.now() + 60_000; ;) {
    if (child.exitCode !== null || Date.now() > end)
      throw new PlainError(`the registry does not start\n${output}`)
    const answer = await fetch(`${url}-/ping`).catch(() => undefined)
    if (answer?.ok) break
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return {
    url,
    async stop() {
      process.off('exit', stopNow)
      child.kill()
      await ended
    },
  }
}

/**
 * @param {string} url
 * @param {string} tarballs the folder they are in
 * @param {NodeJS.ProcessEnv} env
 */
export async function publish(url, tarballs, env) {
  // npm requires a token, but any will do.
  writeFileSync(join(tarballs, '.npmrc'), `registry=${url}\n${url.replace('http:', '')}:_authToken=none\n`)
  const files = readdirSync(tarballs).filter((name) => name.endsWith('.tgz'))
  for (const file of files) {
    let output = ''
    const call = npmCall(['publish', `./${file}`, '--tag', 'latest', '--access', 'public'])
    const { ok, why } = await run(call.command, call.args, {
      cwd: tarballs,
      env,
      shell: call.shell,
      quiet: true,
      onOutput: (text) => (output += text),
    })
    if (!ok) throw new PlainError(`npm publish ${file} failed: ${why}\n${output}`)
  }
}
