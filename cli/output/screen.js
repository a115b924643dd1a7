'use strict'

/** A full screen in a terminal, which is left as it was found, however the program ends. */

const { fitted } = require('./width.js')

const ENTER = '\u001B[?1049h\u001B[?25l'
const LEAVE = '\u001B[?25h\u001B[?1049l'
const HOME = '\u001B[H'
const REST_OF_LINE = '\u001B[K'
const REST_OF_SCREEN = '\u001B[J'

class Screen {
  #output
  #isOpen = false
  #leave = () => this.close()

  /** @param {NodeJS.WriteStream} output */
  constructor(output) {
    this.#output = output
  }

  open() {
    this.#isOpen = true
    this.#output.write(ENTER)
    // Whatever ends the process, except for SIGKILL.
    process.once('exit', this.#leave)
  }

  close() {
    if (!this.#isOpen) return
    this.#isOpen = false
    process.off('exit', this.#leave)
    this.#output.write(LEAVE)
  }

  /**
   * Draws without a flicker: what was there is overwritten, and the rest is erased.
   * @param {readonly string[]} lines without escape sequences; the one of `bold` is bold
   * @param {number} bold
   */
  draw(lines, bold) {
    if (!this.#isOpen) return
    const { columns, rows } = this.#output
    const height = Math.max(1, rows || 24)
    const shown =
      lines.length > height ? [...lines.slice(0, height - 1), `… ${lines.length - height + 1} more`] : lines
    const drawn = shown.map((line, index) => {
      const text = fitted(line, columns || 80)
      return `${index === bold ? `\u001B[1m${text}\u001B[0m` : text}${REST_OF_LINE}`
    })
    this.#output.write(`${HOME}${drawn.join('\n')}${REST_OF_SCREEN}`)
  }
}

module.exports = { Screen }
