/**
 * Finds a server of Redis 6.2, the oldest one that is supported.
 */
import { serverFromWheel } from './from-wheel.mjs'

/**
 * The tests that need it are skipped without one.
 *
 * @returns {Promise<string | null>} its path
 */
export async function findRedis6() {
  const named = process.env.FENCELOCK_REDIS_6_SERVER
  // The program in the wheel needs no Python, so that of any version will do.
  const python = ['--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311']
  const wheel = [...python, '--platform', 'manylinux_2_28_x86_64']
  return named ?? serverFromWheel('redis-server', 'scripts/servers/redis-6.txt', wheel)
}
