'use strict'

/** How many columns of a terminal a text takes. */

/**
 * What takes two: the ranges of East Asian Wide and Fullwidth (UAX #11) with the gaps between them that have
 * no narrow letters, and emoji, of which those of flags take one each.
 */
const WIDE =
  /[\u1100-\u115F\u2E80-\u303E\u3041-\uA4CF\uA960-\uA97C\uAC00-\uD7A3\uF900-\uFAFF\uFE10-\uFE19\uFE30-\uFE6F\uFF01-\uFF60\uFFE0-\uFFE6\u{16FE0}-\u{18DFF}\u{1AFF0}-\u{1B2FF}\u{20000}-\u{3FFFD}]|(?!\p{Regional_Indicator})\p{Emoji_Presentation}/u
/** What is drawn over the character before it, or as a part of its syllable. */
const NARROWEST = /[\p{Mn}\p{Me}\u1160-\u11FF]/u
/** One column each. */
const ASCII = /^[\u0020-\u007E]*$/

/** @param {string} text without control characters */
function widthOf(text) {
  if (ASCII.test(text)) return text.length
  let width = 0
  for (const character of text) width += widthOfCharacter(character)
  return width
}

/** @param {string} character */
function widthOfCharacter(character) {
  if (NARROWEST.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

/**
 * @param {string} text
 * @param {number} width
 */
function padEnd(text, width) {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)))
}

/**
 * Cut to a width, with an ellipsis for what is missing.
 * @param {string} text
 * @param {number} width
 */
function fitted(text, width) {
  if (widthOf(text) <= width) return text
  let shown = ''
  let left = width - 1
  for (const character of text) {
    left -= widthOfCharacter(character)
    if (left < 0) break
    shown += character
  }
  return `${shown}…`
}

module.exports = { fitted, padEnd, widthOf }
