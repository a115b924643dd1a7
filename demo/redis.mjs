// A Redis primary and two replicas for the demo.

import { redisProgram, startPrimary, versionOf } from '../scripts/servers/redis.mjs'

/** Starts the three servers; undefined if there is no redis-server. */
export async function startRedis() {
  if (!versionOf(redisProgram)) return undefined
  const { url, replicas, stop } = await startPrimary({ replicas: 2 })
  return {
    url,
    pauseReplica: () => replicas[1].pause(),
    resumeReplica: () => replicas[1].resume(),
    stop,
  }
}
