// A CommonJS module that uses the package.
import fencelock = require('fencelock')

const manager: fencelock.LockManager = new fencelock.LockManager()

export = manager
