/**
 * The layers of this project, from the lowest to the highest: a file imports only from its own layer and from
 * lower ones.
 */

export const javascriptLayers = [
  ['lib/abort.js', 'lib/errors.js', 'lib/identity.js', 'lib/native/load-errors.js', 'lib/warnings.js'],
  ['lib/options/validate.js', 'lib/options/names.js', 'lib/options/suggest.js'],
  // Below all that loads the addon.
  ['guard/core/'],
  ['guard/sql/', 'guard/redis/', 'guard/http/'],
  ['guard/'],
  ['lib/native/load.js'],
  ['lib/native/wire.js'],
  ['lib/strategies.js'],
  ['lib/options/'],
  ['lib/native/'],
  ['lib/lock-registry.js'],
  ['lib/held-by-caller.js', 'lib/lock.js'],
  ['lib/lock-manager.js'],
  ['index.js'],
  ['testing/'],
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
  ['core/src/backend/contract.rs', 'core/src/backend/guarantees.rs', 'core/src/backend/waiter.rs'],
  ['core/src/backend/redis/config/'],
  ['core/src/backend/redis/protocol/'],
  ['core/src/backend/redis/connection/'],
  ['core/src/backend/redis/node_context.rs'],
  ['core/src/backend/redis/describe/', 'core/src/backend/redis/pipeline/'],
  ['core/src/backend/redis/node/'],
  ['core/src/backend/redis/topology/'],
  ['core/src/backend/redis/'],
  ['core/src/backend/'],
  ['core/src/manager/'],
  ['core/src/lib.rs'],
  ['models/src/invariant.rs', 'models/src/fingerprint.rs', 'models/src/ticks.rs'],
  ['models/src/check.rs'],
  ['models/src/row.rs'],
  ['models/src/guard/', 'models/src/shared/', 'models/src/strong/', 'models/src/quorum/'],
  ['models/src/rows.rs'],
  ['models/src/lib.rs'],
]
