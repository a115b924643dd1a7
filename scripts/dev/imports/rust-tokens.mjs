/**
 * The tokens of a Rust file, as far as they matter for finding paths.
 */

/** @typedef {{ text: string, start: number }} Token */

/**
 * In this order: comments, strings (raw ones, too), characters, lifetimes; then what is kept: words, `::`,
 * the rest.
 */
const pattern =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|b?r(#*)"[\s\S]*?"\1|b?"(?:\\[\s\S]|[^"\\])*"|b?'(?:\\.[^']*|[^\\'])'|'[A-Za-z_]\w*|(\$?[A-Za-z_]\w*|::|[^\s])/g

/** @param {string} text @returns {Token[]} */
export function tokenize(text) {
  return [...text.matchAll(pattern)].flatMap((match) =>
    match[2] === undefined ? [] : [{ text: match[2], start: match.index }],
  )
}

/**
 * The items that only tests compile, with their attributes.
 *
 * @param {Token[]} tokens
 * @returns {Set<number>} the indexes of their tokens
 */
export function findTestCode(tokens) {
  /** @type {Set<number>} */
  const found = new Set()
  const text = (/** @type {number} */ index) => tokens[index]?.text ?? ''
  for (let at = 0; at < tokens.length; at++) {
    if (text(at) !== '#') continue
    const inner = text(at + 1) === '!'
    const end = closing(tokens, at + (inner ? 2 : 1))
    const attribute = tokens
      .slice(at, end)
      .map((token) => token.text)
      .join('')
    if (/^#!?\[cfg\(test\)\]$/.test(attribute)) {
      const last = inner ? tokens.length : endOfItem(tokens, end)
      for (let index = at; index < last; index++) found.add(index)
      at = last - 1
    } else if (attribute.startsWith('#')) {
      // Paths in other attributes are not imports.
      at = end - 1
    }
  }
  return found
}

/**
 * The index after an item, which ends with a semicolon, a comma or a closing brace.
 *
 * @param {Token[]} tokens
 * @param {number} begin
 */
function endOfItem(tokens, begin) {
  for (let at = begin; at < tokens.length; at++) {
    const text = tokens[at]?.text ?? ''
    if (text === ';' || text === ',' || text === '}') return text === '}' ? at : at + 1
    if (text === '{') return closing(tokens, at)
    if (text === '(' || text === '[') at = closing(tokens, at) - 1
  }
  return tokens.length
}

/**
 * The index after the bracket that closes the one at an index.
 *
 * @param {Token[]} tokens
 * @param {number} open
 */
function closing(tokens, open) {
  let depth = 0
  for (let at = open; at < tokens.length; at++) {
    const text = tokens[at]?.text ?? ''
    if (/^[([{]$/.test(text)) depth++
    if (/^[)\]}]$/.test(text) && --depth === 0) return at + 1
  }
  return tokens.length
}
