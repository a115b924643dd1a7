/** A slot that moves from one node to another key by key, in steps between which a test can look. */

/** @typedef {import('./cluster.mjs').ClusterNode} ClusterNode */
/** @typedef {import('./keeper.mjs').Keeper} Keeper */

/** Made by `RedisCluster.migrate`. */
export class SlotMigration {
  #others
  #keeper

  /**
   * @param {{ slot: number, source: ClusterNode, target: ClusterNode, others: ClusterNode[] }} move `others`
   *   are told at the end
   * @param {Keeper | undefined} keeper
   */
  constructor({ slot, source, target, others }, keeper) {
    this.slot = slot
    this.source = source
    this.target = target
    this.#others = others
    this.#keeper = keeper
  }

  /**
   * From now on the source replies ASK for keys that it does not have, and TRYAGAIN to commands with several
   * keys of which it has only some.
   */
  async begin() {
    await this.target.cmd('CLUSTER', 'SETSLOT', this.slot, 'IMPORTING', this.source.id)
    await this.source.cmd('CLUSTER', 'SETSLOT', this.slot, 'MIGRATING', this.target.id)
  }

  /** The keys that the source still has. @returns {Promise<string[]>} */
  async keys() {
    const reply = await this.source.cmd('CLUSTER', 'GETKEYSINSLOT', this.slot, 10_000)
    return Array.isArray(reply) ? reply.map(String) : []
  }

  /** Moves these keys, by default all that the source has now. @param {string[]} [keys] */
  async moveKeys(keys) {
    const moved = keys ?? (await this.keys())
    if (moved.length === 0) return
    const login = this.#keeper ? ['AUTH2', this.#keeper.username, this.#keeper.password] : []
    const { host, announcedPort } = this.target
    await this.source.cmd('MIGRATE', host, announcedPort, '', 0, 5000, ...login, 'KEYS', ...moved)
  }

  /** Moves the keys that are left, and gives the slot to the target. */
  async finish() {
    await this.moveKeys()
    // The target first: should it fail then, the source would still know where to send clients.
    for (const node of [this.target, this.source, ...this.#others]) {
      await node.cmd('CLUSTER', 'SETSLOT', this.slot, 'NODE', this.target.id)
    }
  }

  /** Leaves the slot where it was. Only before keys have moved. */
  async cancel() {
    await this.source.cmd('CLUSTER', 'SETSLOT', this.slot, 'STABLE')
    await this.target.cmd('CLUSTER', 'SETSLOT', this.slot, 'STABLE')
  }
}
