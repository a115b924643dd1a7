'use strict'

/** "Did you mean …?" for misspelled option names and values. */

/**
 * The number of single edits that turn one word into the other. Swapping two neighbours is one edit.
 * @param {string} a
 * @param {string} b
 */
function distance(a, b) {
  let beforeLast = new Uint32Array(b.length + 1)
  let last = Uint32Array.from(beforeLast, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = new Uint32Array(b.length + 1)
    row[0] = i
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let edits = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits = Math.min(edits, at(beforeLast, j - 2) + 1)
      }
      row[j] = edits
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

/**
 * @param {Uint32Array} row
 * @param {number} index
 */
function at(row, index) {
  return /** @type {number} */ (row[index])
}

/**
 * The known word that was probably meant, if one is similar enough.
 * @param {string} word
 * @param {readonly string[]} known
 */
function nearest(word, known) {
  return known
    .map((candidate) => {
      const [given, wanted] = withoutCommonWords(word.toLowerCase(), candidate.toLowerCase())
      return { candidate, length: wanted.length, edits: distance(given, wanted) }
    })
    .filter(({ edits, length }) => edits <= Math.max(2, Math.floor(length / 3)))
    .toSorted((a, b) => a.edits - b.edits)[0]?.candidate
}

/**
 * What two names do not begin with alike, of names like LOCK_HELD: LOCK_BUSY is not LOCK_LOST, although most
 * of their letters are the same.
 * @param {string} a
 * @param {string} b
 */
function withoutCommonWords(a, b) {
  const [ours, theirs] = [a.split('_'), b.split('_')]
  while (ours.length > 1 && theirs.length > 1 && ours[0] === theirs[0]) {
    ours.shift()
    theirs.shift()
  }
  return /** @type {const} */ ([ours.join('_'), theirs.join('_')])
}

module.exports = { nearest }
