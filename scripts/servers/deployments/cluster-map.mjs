/**
 * What a cluster's nodes report about the cluster, and the slots of keys.
 */

/**
 * A line of CLUSTER NODES.
 *
 * @typedef {object} NodeLine
 * @property {string} id
 * @property {string} address such as `127.0.0.1:6379`
 * @property {boolean} myself whether it is about the node that was asked
 * @property {'primary' | 'replica'} role
 * @property {string | undefined} primaryId of a replica
 * @property {string[]} flags
 * @property {number} epoch
 * @property {boolean} connected
 * @property {[first: number, last: number][]} slots without those that are being moved
 * @property {string[]} moving for example `[5->-id]` or `[5-<-id]`
 */

/** The lines of CLUSTER NODES. @param {unknown} reply @returns {NodeLine[]} */
export function parseNodes(reply) {
  return String(reply)
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [id = '', place = '', flagText = '', primary = '-', , , epoch, link, ...ranges] = line.split(' ')
      const flags = flagText.split(',')
      return {
        id,
        address: place.split('@')[0] ?? '',
        myself: flags.includes('myself'),
        role: flags.includes('master') ? 'primary' : 'replica',
        primaryId: primary === '-' ? undefined : primary,
        flags,
        epoch: Number(epoch),
        connected: link === 'connected',
        slots: ranges.filter((range) => !range.startsWith('[')).map(parseRange),
        moving: ranges.filter((range) => range.startsWith('[')),
      }
    })
}

/** @param {string} text @returns {[first: number, last: number]} */
function parseRange(text) {
  const [first = 0, last = first] = text.split('-').map(Number)
  return [first, last]
}

/** Whether ranges contain a slot. @param {[first: number, last: number][]} ranges @param {number} slot */
export function contains(ranges, slot) {
  return ranges.some(([first, last]) => first <= slot && slot <= last)
}

/** The number of slots of every cluster. */
export const slotCount = 16_384

/** The slot of a key: of what is in its first pair of braces, if there is something. @param {string} key */
export function slotOf(key) {
  const tag = /^[^{]*\{([^}]+)\}/.exec(key)?.[1] ?? key
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x80_00 ? (crc << 1) ^ 0x10_21 : crc << 1) & 0xff_ff
  }
  return crc % slotCount
}
