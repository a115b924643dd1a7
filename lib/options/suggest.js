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
  const lower = word.toLowerCase()
  return known
    .map((candidate) => ({ candidate, edits: distance(lower, candidate.toLowerCase()) }))
    .filter(({ candidate, edits }) => edits <= Math.max(2, Math.floor(candidate.length / 3)))
    .toSorted((a, b) => a.edits - b.edits)[0]?.candidate
}

module.exports = { nearest }
