/** `examples/edge-node`: a service and a cron script that share a volume. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, it } from 'vitest'

import { onCleanup } from '../fixtures/cleanup'
import { eventually, tempDir } from '../fixtures/temp'
import { line, startExample } from './support'

/** Where the batches go: by their names, because one may come twice. */
async function startUploads() {
  const batches = new Map<string, string>()
  const names: string[] = []
  let hangs = false
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      const name = String(request.headers['idempotency-key'])
      names.push(name)
      if (hangs) return
      batches.set(name, body)
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onCleanup(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    batches,
    names,
    hang: (on: boolean) => (hangs = on),
  }
}

it('ships every reading once, also after a run that was killed', async () => {
  const folder = tempDir()
  const uploads = await startUploads()
  const env = { DATA_DIR: folder, UPLOAD_URL: uploads.url }
  const service = startExample('edge-node/index.mjs', { env })
  const ship = () => startExample('edge-node/ship.mjs', { env })
  await line(service, /^reading$/)
  const file = join(folder, 'readings.ndjson')
  // The file is there before its first line is.
  const readings = () => existsSync(file) && readFileSync(file, 'utf8').includes('\n')
  await eventually('there are readings', readings)
  expect(await ship().ended).toMatchObject({ code: 0, stdout: expect.stringMatching(/^shipped batch-/) })

  uploads.hang(true)
  await eventually('there are new readings', readings)
  const killed = ship()
  await eventually('it uploads', () => uploads.names.length === 2)
  expect(await ship().ended).toMatchObject({ code: 0, stdout: 'another run is shipping\n' })
  await killed.kill('SIGKILL')
  uploads.hang(false)
  // At once, long before the lease of the killed one would end.
  const began = performance.now()
  expect(await ship().ended).toMatchObject({ code: 0, stdout: expect.stringContaining('shipped batch-') })
  expect(performance.now() - began).toBeLessThan(10_000)
  expect(uploads.names[2], 'the file that the killed run left').toBe(uploads.names[1])

  // A killed service leaves nothing locked, either.
  await eventually('there are new readings', readings)
  await service.kill('SIGKILL')
  expect(await ship().ended).toMatchObject({ code: 0 })
  const ids = [...uploads.batches.values()].flatMap((batch) =>
    batch
      .trim()
      .split('\n')
      .map((entry) => (JSON.parse(entry) as { id: number }).id),
  )
  expect(ids.length).toBeGreaterThan(2)
  expect(ids.toSorted((a, b) => a - b)).toEqual(ids.map((_, index) => index + 1))
})

it.each([
  ['before its first reading', ''],
  ['within its first reading', '{"id":1,'],
  ['within its second reading', '{"id":1}\n{"id":2,'],
])('ships whole readings of a service that was killed %s', async (_, written) => {
  const folder = tempDir()
  const uploads = await startUploads()
  writeFileSync(join(folder, 'readings.ndjson'), written)
  const env = { DATA_DIR: folder, UPLOAD_URL: uploads.url }
  expect(await startExample('edge-node/ship.mjs', { env }).ended).toMatchObject({ code: 0 })
  expect([...uploads.batches.values()]).toEqual(written.includes('\n') ? ['{"id":1}\n'] : [])
  expect(readdirSync(folder).filter((name) => name.endsWith('.ndjson'))).toEqual([])
})

it('goes on after a whole reading when it was killed within one', async () => {
  const folder = tempDir()
  const file = join(folder, 'readings.ndjson')
  writeFileSync(file, '{"id":8}\n{"id":9,')
  const service = startExample('edge-node/index.mjs', { env: { DATA_DIR: folder } })
  await line(service, /^reading$/)
  const ids = () =>
    readFileSync(file, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((entry) => (JSON.parse(entry) as { id: number }).id)
  await eventually('there is a new reading', () => ids().length > 1)
  expect(ids().slice(0, 2)).toEqual([8, 1])
})

it('stops between two readings', async () => {
  const service = startExample('edge-node/index.mjs', { env: { DATA_DIR: tempDir() } })
  await line(service, /^reading$/)
  expect(await service.kill('SIGTERM')).toMatchObject({ code: 0, stdout: 'reading\nstopped\n' })
})
