/**
 * What may be wrong with an import graph: circles, and imports from a higher layer.
 */

/** @typedef {Map<string, Set<string>>} Graph the files that each file imports; every file is a key */

/**
 * The groups of files that reach each other by imports.
 *
 * @param {Graph} graph
 * @returns {{ files: string[], circle: string[] }[]} `circle` is the shortest one in the group: each file
 *   imports the next one, and the last one imports the first
 */
export function circles(graph) {
  return components(graph)
    .filter((files) => files.length > 1)
    .map((files) => ({ files, circle: shortestCircle(graph, new Set(files)) }))
}

/**
 * The strongly connected components of the graph, by Tarjan's algorithm.
 *
 * @param {Graph} graph
 * @returns {string[][]}
 */
function components(graph) {
  /** @type {string[][]} */
  const found = []
  /** @type {Map<string, { index: number, low: number, open: boolean }>} */
  const states = new Map()
  /** @type {string[]} */
  const stack = []
  /** @param {string} file */
  const visit = (file) => {
    const state = { index: states.size, low: states.size, open: true }
    states.set(file, state)
    stack.push(file)
    for (const target of graph.get(file) ?? []) {
      const known = states.get(target)
      if (known === undefined) state.low = Math.min(state.low, visit(target))
      else if (known.open) state.low = Math.min(state.low, known.index)
    }
    if (state.low === state.index) {
      const files = stack.splice(stack.indexOf(file))
      for (const each of files) /** @type {{ open: boolean }} */ (states.get(each)).open = false
      found.push(files)
    }
    return state.low
  }
  for (const file of graph.keys()) if (!states.has(file)) visit(file)
  return found
}

/**
 * The shortest way from a file of the group back to itself.
 *
 * @param {Graph} graph
 * @param {Set<string>} group files that reach each other
 * @returns {string[]}
 */
function shortestCircle(graph, group) {
  /** @type {string[]} */
  let best = []
  for (const start of [...group].toSorted()) {
    /** @type {Map<string, string>} */
    const cameFrom = new Map()
    const queue = [start]
    for (let file = queue.shift(); file !== undefined && !cameFrom.has(start); file = queue.shift()) {
      for (const target of graph.get(file) ?? []) {
        if (!group.has(target) || cameFrom.has(target)) continue
        cameFrom.set(target, file)
        queue.push(target)
      }
    }
    const circle = [start]
    for (let file = cameFrom.get(start); file !== undefined && file !== start; file = cameFrom.get(file)) {
      circle.splice(1, 0, file)
    }
    if (best.length === 0 || circle.length < best.length) best = circle
  }
  return best
}

/**
 * The imports that point from a lower to a higher layer.
 *
 * @param {Graph} graph
 * @param {readonly (readonly string[])[]} layers from the lowest to the highest: prefixes of paths; the
 *   longest one that matches decides, and a file that none matches is in no layer
 * @returns {[from: string, to: string][]}
 */
export function upwardImports(graph, layers) {
  const prefixes = layers
    .flatMap((layer, level) => layer.map((prefix) => ({ prefix, level })))
    .toSorted((a, b) => b.prefix.length - a.prefix.length)
  const levelOf = (/** @type {string} */ file) =>
    prefixes.find(({ prefix }) => file.startsWith(prefix))?.level
  return [...graph].flatMap(([file, targets]) => {
    const own = levelOf(file) ?? Number.POSITIVE_INFINITY
    const higher = [...targets].filter((target) => (levelOf(target) ?? -1) > own)
    return higher.map((target) => /** @type {[string, string]} */ ([file, target]))
  })
}
