/**
 * The chart: one self-contained SVG, readable in light and dark mode, without embedded fonts or scripts.
 */
import { throughput } from '../scenarios/throughput/measure.mjs'
import { findSubject } from '../subjects/index.mjs'

/** @typedef {import('../scenarios/throughput/measure.mjs').Throughput} Throughput */
/** @typedef {import('../harness/rounds.mjs').Row} Row */
/** @typedef {{ label: string, results: import('../scenarios/index.mjs').Results }} RuntimeResults */

const COLUMN = { width: 450, label: 146, value: 76, gap: 28 }
const BAR = { height: 15, pitch: 21 }
const PANEL = { head: 34, gap: 18 }
const MARGIN = 24
const TOP = 96
const BOTTOM = 44

const style = `
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; fill: #1f2328 }
  .back { fill: #ffffff }
  .title { font-size: 18px; font-weight: 600 }
  .runtime { font-size: 14px; font-weight: 600 }
  .panel { font-weight: 600 }
  .muted { fill: #59636e }
  .small { font-size: 11px }
  .end { text-anchor: end }
  .ours { fill: #0969da }
  .peer { fill: #8c959f }
  .lesser { fill: #d0d7de }
  text.ours { font-weight: 600; fill: #0550ae }
  .axis { stroke: #d0d7de }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .back { fill: #0d1117 }
    .muted { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .peer { fill: #6e7681 }
    .lesser { fill: #3d444d }
    text.ours { fill: #79c0ff }
    .axis { stroke: #3d444d }
  }`

/**
 * @param {RuntimeResults[]} runtimes side by side
 * @param {string} footer what it was measured with
 * @returns {string}
 */
export function drawChart(runtimes, footer) {
  const shown = throughput.filter(({ id }) => runtimes.some(({ results }) => results.throughput[id]))
  /** @param {Throughput} scenario */
  const rowsOf = (scenario) => runtimes.map(({ results }) => results.throughput[scenario.id] ?? [])
  const heights = shown.map((scenario) => {
    const rows = Math.max(...rowsOf(scenario).map(({ length }) => length))
    return PANEL.head + rows * BAR.pitch + PANEL.gap
  })
  const width = 2 * MARGIN + runtimes.length * COLUMN.width + (runtimes.length - 1) * COLUMN.gap
  const height = TOP + heights.reduce((sum, value) => sum + value, 0) + BOTTOM
  const left = (/** @type {number} */ column) => MARGIN + column * (COLUMN.width + COLUMN.gap)

  const parts = [
    text(MARGIN, 34, 'title', 'Acquire and release: fencelock and its peers'),
    ...legend(MARGIN, 58),
    ...runtimes.map(({ label }, column) => text(left(column), TOP - 6, 'runtime', label)),
  ]
  let top = TOP
  for (const [index, scenario] of shown.entries()) {
    for (const [column, rows] of rowsOf(scenario).entries())
      parts.push(...panel(left(column), top, scenario, rows))
    top += heights[index] ?? 0
  }
  parts.push(text(MARGIN, height - 20, 'muted small', footer))
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>Acquire and release: fencelock and its peers</title>
<style>${style}
</style>
<rect class="back" width="${width}" height="${height}"/>
${parts.join('\n')}
</svg>
`
}

/** @param {number} x @param {number} y */
function legend(x, y) {
  let at = x
  return [
    { kind: 'ours', says: 'fencelock: waits for both replicas (strong), fencing token' },
    { kind: 'peer', says: 'the same guarantee without a token' },
    { kind: 'lesser', says: 'does not wait for replicas, no token' },
  ].flatMap(({ kind, says }) => {
    const parts = [rect(at, y - 9, 10, 10, kind), text(at + 15, y, 'muted', says)]
    // An upper bound for the width of such text.
    at += 40 + says.length * 5.9
    return parts
  })
}

/**
 * @param {number} x
 * @param {number} y
 * @param {Throughput} scenario
 * @param {Row[]} rows
 */
function panel(x, y, { title, by }, rows) {
  const unit = by === 'p50' ? 'p50 in milliseconds: shorter is better' : 'pairs a second: longer is better'
  const most = Math.max(...rows.map((row) => row[by]).filter(Number.isFinite))
  const room = COLUMN.width - COLUMN.label - COLUMN.value
  const begin = x + COLUMN.label
  const parts = [
    `<text x="${x}" y="${y + 18}" class="panel">${escape(title)}<tspan class="muted small" font-weight="400" dx="8">${unit}</tspan></text>`,
    `<path class="axis" d="M${begin - 0.5} ${y + PANEL.head - 6}v${rows.length * BAR.pitch}"/>`,
  ]
  for (const [index, row] of rows.entries()) {
    const top = y + PANEL.head - 3 + index * BAR.pitch
    const { kind } = findSubject(row.id)
    const baseline = top + 12
    parts.push(text(begin - 8, baseline, kind === 'ours' ? 'end ours' : 'end', row.label))
    if (row.unavailable === undefined) {
      const length = Math.max(1, (row[by] / most) * room)
      parts.push(
        rect(begin, top, length, BAR.height, kind),
        text(begin + length + 6, baseline, kind === 'ours' ? 'ours' : 'muted', show(row[by], by)),
      )
    } else {
      parts.push(text(begin + 6, baseline, 'muted small', 'does not run here'))
    }
  }
  return parts
}

/** @param {number} value @param {'perSecond' | 'p50'} by */
function show(value, by) {
  return by === 'p50' ? `${value.toFixed(3)} ms` : Math.round(value).toLocaleString('en')
}

/** @param {number} x @param {number} y @param {number} width @param {number} height @param {string} kind */
function rect(x, y, width, height, kind) {
  return `<rect class="${kind}" x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${height}" rx="2"/>`
}

/** @param {number} x @param {number} y @param {string} kind @param {string} content */
function text(x, y, kind, content) {
  return `<text x="${round(x)}" y="${round(y)}" class="${kind}">${escape(content)}</text>`
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10
}

/** @param {string} content */
function escape(content) {
  return content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
