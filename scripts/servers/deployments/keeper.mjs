import { randomBytes } from 'node:crypto'

/**
 * The user as which servers and Sentinels log in to each other: it works whatever a test does to the other
 * users.
 */
export class Keeper {
  username = 'keeper'
  password = randomBytes(8).toString('hex')

  /** Its rule, for `user` in a configuration file. */
  get rule() {
    return `${this.username} on >${this.password} ~* &* +@all`
  }

  /** The configuration lines of a data server whose replicas use it. */
  get replicaLines() {
    return [`masteruser ${this.username}`, `masterauth ${this.password}`]
  }
}

/**
 * The keeper of data servers with these options; undefined if they are open to all.
 *
 * @param {{ password?: string, users?: string[] }} options
 */
export function keeperFor({ password, users }) {
  return password === undefined && users === undefined ? undefined : new Keeper()
}
