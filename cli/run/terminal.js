'use strict'

const { closeSync, openSync } = require('node:fs')

/**
 * Whether this process has a terminal. Then its command stays in its process group, the terminal's
 * foreground group: so it can read the terminal, and the kernel sends it Ctrl-C and Ctrl-Z. Without one it
 * gets a session and a group of its own, to which signals can be sent.
 */
function hasTerminal() {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}

module.exports = { hasTerminal }
