/** Exact statistics: all values are kept, without the errors of a histogram. */

/**
 * The value that a share `q` of the values lies below.
 *
 * @param {ArrayLike<number>} sorted ascending
 * @param {number} q from 0 to 1
 */
export function quantile(sorted, q) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN
}

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? quantile(sorted, 0.5) : (at(sorted, middle - 1) + at(sorted, middle)) / 2
}

/** @param {readonly number[]} values @param {number} index */
function at(values, index) {
  return values[index] ?? Number.NaN
}

/** @param {readonly number[]} values */
export function summary(values) {
  const sorted = Float64Array.from(values).toSorted()
  return { p50: quantile(sorted, 0.5), p99: quantile(sorted, 0.99), max: quantile(sorted, 1) }
}
