'use strict'

/** The addon, checked to be the one that belongs to this package. */

const binding = require('../binding.js')
const { version } = require('../package.json')

if (binding.version() !== version) {
  throw new Error(
    `fencelock ${version} found an addon of version ${binding.version()}: the packages do not match; ` +
      'remove node_modules and the lock file’s fencelock entries, and install again',
  )
}

module.exports = binding
