/** The programs in docs/moving, before and after, print what their comments state. */
import { beforeAll, describe, expect, it } from 'vitest'

import { promisedOutput, runSnippet } from '../fixtures/examples/snippets'
import { blocks, peersOf, startServers, votesAtOnce, type Servers } from './support'

const programs = blocks.filter(({ needs }) => needs[0] === 'moving')

describe('the programs of docs/moving', () => {
  let servers: Servers
  beforeAll(async () => {
    servers = await startServers()
  })

  it('are there for every library, before and after', () => {
    const before = programs.map(({ needs }) => needs[1])
    expect(before).toEqual(
      expect.arrayContaining([
        'redlock-5',
        'redlock-4',
        'redlock-universal',
        'redis-semaphore',
        'proper-lockfile',
        'ioredis',
        undefined,
      ]),
    )
  })

  it.each(programs.map((program) => [program.name, program] as const))('%s', async (_, program) => {
    const { code, stdout, stderr } = await runSnippet(program, {
      env: program.needs.includes('quorum') ? servers.several : servers.single,
      peers: peersOf(program),
      replace: votesAtOnce,
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const promised = promisedOutput(program)
    expect(promised.length).toBeGreaterThan(0)
    expect(stdout.trim().split('\n')).toEqual(promised)
  })
})
