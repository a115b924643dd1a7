// What the demo prints: titles, the steps below them, and their results.

/** @param {string} text */
export function title(text) {
  console.log(`\n${process.stdout.isTTY ? `\u001B[1m${text}\u001B[0m` : text}`)
}

/** @param {string} text */
export function step(text) {
  console.log(`\n  ${text}`)
}

/** @param {string} text */
export function result(text) {
  console.log(`    ${text}`)
}
