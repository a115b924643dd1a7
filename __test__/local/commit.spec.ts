/** Local locks when the process is killed in the middle of a commit that carries many operations. */
import { LockManager } from 'fencelock'
import { execFileSync } from 'node:child_process'
import { cpSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'

import { closing } from '../fixtures/locks'
import { startCode, type Script } from '../fixtures/processes/processes'
import { eventually, sleep, tempDir } from '../fixtures/temp'
import { walFrames } from '../fixtures/wal'

/** The number of kills, and of those in mid-commit: without the latter the test would show nothing. */
const KILLS = 20
const STRUCK = 5

/**
 * What a process locks at once: as many locks as one transaction carries. Names are long, so that a commit
 * writes hundreds of pages, and each array is spread over the whole file, so that half a commit would show.
 */
const all: readonly (readonly string[])[] = Array.from({ length: 256 }, (_, index) =>
  Array.from({ length: index % 16 === 0 ? 24 : 1 }, (__, part) => `${part}/${index}/`.padEnd(480, '.')),
)

/** A process that acquires and releases them, each as fast as it can, and says the tokens of its grants. */
function worker(path: string): Script {
  const script = startCode(
    `const { LockManager } = await import('fencelock')
     const locks = new LockManager({ local: ${JSON.stringify(path)} })
     let granted = []
     const report = (index, token) => {
       // Grants that arrive together are said together, as soon as all of them have arrived.
       if (granted.push([index, String(token)]) > 1) return
       queueMicrotask(() => {
         say(granted)
         granted = []
       })
     }
     for await (const all of hear()) {
       all.forEach(async (resources, index) => {
         for (;;) {
           const lock = await locks.tryAcquireLocal(resources, { ttlMs: 600_000 })
           report(index, lock.token)
           await lock.release()
         }
       })
     }`,
  )
  script.tell(all)
  return script
}

interface Content {
  integrity: string
  rows: Record<string, { token: number; owner: string | null }>
}

/** The content of lock files, read by the SQLite of another process. */
function read(...paths: string[]): Content[] {
  const code = `
import json, sqlite3, sys
def read(path):
    c = sqlite3.connect(path)
    rows = c.execute("select resource, token, hex(owner) from leases").fetchall()
    return {"integrity": c.execute("pragma integrity_check").fetchone()[0],
            "rows": {resource: {"token": token, "owner": owner or None} for resource, token, owner in rows}}
print(json.dumps([read(path) for path in sys.argv[1:]]))`
  return JSON.parse(execFileSync('python3', ['-c', code, ...paths], { encoding: 'utf8' })) as Content[]
}

it(
  'a kill in mid-commit leaves a whole transaction or nothing, and loses no reported grant',
  { timeout: 240_000 },
  async () => {
    const dir = tempDir()
    const path = join(dir, 'locks.sqlite')
    const copy = join(tempDir(), 'copy')
    const highest = all.map(() => 0n)
    let [kills, struck, left, together] = [0, 0, 0, 0]
    while (kills < KILLS || struck < STRUCK) {
      const script = worker(path)
      await script.next()
      await sleep(Math.random() * 100)
      expect(await script.kill()).toMatchObject({ signal: 'SIGKILL', stderr: '' })
      kills++
      const said = script.said as [number, string][][]
      // A transaction reads the clock once, so its tokens are the same.
      for (const granted of said)
        together = Math.max(together, granted.filter(([, token]) => token === granted[0]![1]).length)
      for (const [index, token] of said.flat()) {
        expect(BigInt(token)).toBeGreaterThan(highest[index]!) // within a process and across processes
        highest[index] = BigInt(token)
      }
      // No process has the file open now. The log is that of the killed process: the last one to close
      // removes its log.
      if (walFrames(`${path}-wal`).torn > 0) struck++
      cpSync(dir, copy, { recursive: true })

      const locks = closing(new LockManager({ local: path }))
      await locks.connect()
      const [before, after] = read(join(copy, 'locks.sqlite'), path) as [Content, Content]
      rmSync(copy, { recursive: true })
      expect([before.integrity, after.integrity]).toEqual(['ok', 'ok'])
      for (const [index, resources] of all.entries()) {
        const rows = resources.map((resource) => before.rows[resource])
        // All or nothing of each grant and release; and each reported grant is there.
        for (const row of rows) expect(row).toEqual(rows[0])
        expect(BigInt(rows[0]?.token ?? 0)).toBeGreaterThanOrEqual(highest[index]!)
        for (const resource of resources) expect(after.rows[resource]?.token).toBe(rows[0]?.token)
        if (rows[0]?.owner) left++
      }

      // The leases would last for ten minutes, but their holder is dead.
      const taken = await Promise.all(all.map((resources) => locks.tryAcquireLocal([...resources])))
      for (const [index, lock] of taken.entries()) {
        expect(lock?.token).toBeGreaterThan(highest[index]!)
        highest[index] = lock!.token
      }
      await eventually(
        'the liveness file of the killed process is removed',
        () => readdirSync(dir).filter((name) => name.includes('-live-')).length === 1,
      )
      await locks.close({ drainMs: 0 })
      expect(readdirSync(dir)).toEqual(['locks.sqlite'])
    }
    // Commits carried many operations, and most of the killed processes held leases.
    expect(together).toBeGreaterThan(all.length / 2)
    expect(left).toBeGreaterThan(kills)
  },
)
