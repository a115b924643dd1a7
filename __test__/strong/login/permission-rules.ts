import { unique } from '../../fixtures/locks'
/** The ACL rules of docs/guide/permissions.md, by what needs them, and users who have some of them. */
import { type RedisServer } from '../../fixtures/servers/redis'

/** Commands that scripts call: without one of them nothing is granted. */
export const inScripts = [
  '+time',
  '+exists',
  '+get',
  '+mget',
  '+set',
  '+del',
  '+pttl',
  '+pexpire',
  '+zadd',
  '+zrem',
  '+zscore',
  '+zrangebyscore',
  '+zrevrangebyscore',
]
/** Without one of them nothing is granted, either. */
export const required = ['~fencelock:*', '+ping', '+eval', '+evalsha', ...inScripts]
/** Without them a call with `waitMs` fails if the lock is held. */
export const forWaiting = ['&fencelock:wake:*', '+subscribe']
export const forReplicas = ['+wait']
export const forCluster = ['+cluster|slots', '+asking']
export const optional = [
  '+publish',
  '+script|load',
  '+unlink',
  '+info',
  '+config|get',
  '+client|setname',
  '+scan',
]
export const optionalInCluster = ['+cluster|info']
/** Of Redis 7.0 and Valkey; only together. */
export const shardedChannels = ['+ssubscribe', '+sunsubscribe', '+spublish']
/** For `fsync`, for `db`, and for the version of fencelock in CLIENT LIST; older servers do not know all. */
export const forOptions = ['+waitaof', '+select', '+client|setinfo']

/** Of a Sentinel's user. */
export const requiredOfSentinels = ['+ping', '+sentinel|get-master-addr-by-name']
export const optionalOfSentinels = [
  '&+switch-master',
  '&+promoted-slave',
  '&+config-update-from',
  '&+reset-master',
  '+subscribe',
  '+sentinel|master',
  '+sentinel|sentinels',
  '+sentinel|myid',
  '+sentinel|masters',
  '+client|setname',
]

/** Of the user of a guard's own client, in addition to the commands and keys of the data. */
export const ofGuards = ['~fencelock:guard{*', '+evalsha', '+eval', '+get', '+set']

export type Deployment = 'standalone' | 'replicas' | 'cluster'

/** The rules that the page has for a deployment: without its options, all of them. */
export function rulesFor(deployment: Deployment): { needed: string[]; optional: string[] } {
  const acks = deployment === 'standalone' ? [] : forReplicas
  const cluster = deployment === 'cluster'
  return {
    needed: [...required, ...forWaiting, ...acks, ...(cluster ? forCluster : [])],
    optional: [...optional, ...(cluster ? optionalInCluster : [])],
  }
}

export interface User {
  username: string
  password: string
}

/** A new user of these servers, with these rules only. */
export async function newUser(servers: Pick<RedisServer, 'cmd'>[], rules: string[]): Promise<User> {
  const user = { username: unique('user'), password: 'secret' }
  await Promise.all(
    servers.map((server) =>
      server.cmd('ACL', 'SETUSER', user.username, 'reset', 'on', '>secret', 'resetchannels', ...rules),
    ),
  )
  return user
}

export const without = (rules: string[], ...some: string[]): string[] =>
  rules.filter((rule) => !some.includes(rule))
