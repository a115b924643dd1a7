/**
 * The layers of this project, from the lowest to the highest: a file imports only from its own layer and from
 * lower ones.
 */

export const javascriptLayers = [
  ['lib/errors.js', 'lib/native/load-errors.js'],
  ['lib/native/load.js'],
  ['lib/native/wire.js'],
  ['lib/strategies.js'],
  ['lib/options/'],
  ['lib/native/'],
  ['lib/abort.js', 'lib/lock.js'],
  ['lib/lock-manager.js'],
  ['index.js'],
  ['guard/core/'],
  ['guard/sql/', 'guard/redis/', 'guard/http/'],
  ['guard/'],
  ['scripts/lib/'],
  ['scripts/'],
  ['bench/subjects/'],
  ['bench/harness/'],
  ['bench/scenarios/'],
  ['bench/report/'],
  ['bench/'],
  ['examples/'],
  ['__test__/'],
]

export const rustLayers = [
  ['core/src/error.rs', 'core/src/runtime/'],
  ['core/src/lease/'],
  ['core/src/backend/'],
  ['core/src/manager/'],
  ['core/src/lib.rs'],
]
