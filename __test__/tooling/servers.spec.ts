/** The servers that the tests start. */
import { execFileSync } from 'node:child_process'
import { expect, it } from 'vitest'

import { startRedis } from '../fixtures/servers/redis'
import { eventually } from '../fixtures/temp'

/** The processes that are in a process group, without those that have ended. */
function inGroup(id: number): string[] {
  return execFileSync('ps', ['-eo', 'pgid=,stat=,args='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([group, state]) => group === String(id) && !state?.startsWith('Z'))
    .map(([, , ...args]) => args.join(' '))
}

it.skipIf(process.platform === 'win32')(
  'a server that is killed while it saves leaves no process',
  async () => {
    const server = await startRedis({ config: ['rdb-key-save-delay 30000000'] })
    await server.cmd('SET', 'key', 'x')
    const { pid } = server
    await server.cmd('BGSAVE')
    await eventually('it saves', () => inGroup(pid!).length === 2)
    await server.kill()
    expect(await eventually('its processes have ended', () => inGroup(pid!).length === 0)).toBe(true)
  },
)
