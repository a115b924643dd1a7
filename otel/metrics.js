'use strict'

/**
 * The metrics. What only counts is added up here, and read when metrics are collected: an SDK spends more on
 * finding the series of a measurement than an acquire costs.
 */

const { liveManagers } = require('../lib/live-managers.js')
const { STRATEGIES } = require('../lib/strategies.js')
const { ATTRIBUTES, METRICS } = require('./names.js')

/** @import { Attributes, Meter, ObservableResult } from '@opentelemetry/api' */
/** @import * as Public from '../index.js' */
/** @import { Metric } from './names.js' */

const { strategy: STRATEGY, outcome: OUTCOME, cause: CAUSE, group: GROUP } = ATTRIBUTES

/** @typedef {{ attributes: Attributes, value: number }} Entry */

/** Attributes by what they say, so that each set of them exists once, and numbers that belong to them. */
class Series {
  /**
   * By strategy, value and group. In maps within maps: to make one key of them costs more than to look three
   * up.
   * @type {Map<string, Map<string | undefined, Map<string | undefined, Entry>>>}
   */
  #byStrategy = new Map()
  /** @type {Entry[]} */
  #all = []
  #name

  /** @param {string} name of the attribute beside strategy and group */
  constructor(name) {
    this.#name = name
  }

  /**
   * @param {string} strategy
   * @param {string | undefined} value of the attribute
   * @param {string | undefined} group
   */
  of(strategy, value, group) {
    return this.#byStrategy.get(strategy)?.get(value)?.get(group) ?? this.#add(strategy, value, group)
  }

  /**
   * @param {string} strategy
   * @param {string | undefined} value
   * @param {string | undefined} group
   */
  #add(strategy, value, group) {
    const attributes = {
      [STRATEGY]: strategy,
      ...(value !== undefined && { [this.#name]: value }),
      ...(group !== undefined && { [GROUP]: group }),
    }
    const entry = { attributes, value: 0 }
    const byValue = this.#byStrategy.get(strategy) ?? new Map()
    const byGroup = byValue.get(value) ?? new Map()
    this.#byStrategy.set(strategy, byValue.set(value, byGroup.set(group, entry)))
    this.#all.push(entry)
    return entry
  }

  /** @param {ObservableResult} result */
  observe(result) {
    for (const { attributes, value } of this.#all) result.observe(value, attributes)
  }
}

/** @param {Metric} metric */
const options = ({ unit, description, buckets }) => ({
  unit,
  description,
  ...(buckets && { advice: { explicitBucketBoundaries: buckets } }),
})

/** The metrics of one instrumentation. */
class Metrics {
  #acquisitions = new Series(OUTCOME)
  #waits = new Series(OUTCOME)
  #holds = new Series(OUTCOME)
  #renewals = new Series(OUTCOME)
  #losses = new Series(CAUSE)
  #queued = new Series(OUTCOME)
  /**
   * The series that a wait is counted in. A wait that began before this listened was not added.
   * @type {WeakMap<Public.WaitContext, { value: number }>}
   */
  #queuedIn = new WeakMap()
  #groupOf
  #acquireDuration
  #waitDuration
  #holdDuration
  #renewalLag
  /** @type {(() => void)[]} */
  #stops = []

  /**
   * @param {Meter} meter
   * @param {(resources: readonly string[]) => string | undefined} groupOf
   */
  constructor(meter, groupOf) {
    this.#groupOf = groupOf
    /** @param {Metric} metric */
    const histogram = (metric) => meter.createHistogram(metric.name, options(metric))
    this.#acquireDuration = histogram(METRICS.acquireDuration)
    this.#waitDuration = histogram(METRICS.waitDuration)
    this.#holdDuration = histogram(METRICS.holdDuration)
    this.#renewalLag = histogram(METRICS.renewalLag)
    /**
     * @param {'createObservableCounter' | 'createObservableUpDownCounter'} create
     * @param {Metric} metric
     * @param {(result: ObservableResult) => void} observe
     */
    const observed = (create, metric, observe) => {
      const instrument = meter[create](metric.name, options(metric))
      instrument.addCallback(observe)
      this.#stops.push(() => instrument.removeCallback(observe))
    }
    const [counter, upDown] = /** @type {const} */ ([
      'createObservableCounter',
      'createObservableUpDownCounter',
    ])
    observed(counter, METRICS.acquisitions, (result) => this.#acquisitions.observe(result))
    observed(counter, METRICS.losses, (result) => this.#losses.observe(result))
    observed(upDown, METRICS.queuedAcquisitions, (result) => this.#queued.observe(result))
    observed(upDown, METRICS.activeLeases, observeLeases)
    observed(upDown, METRICS.connections, observeConnections)
  }

  /**
   * @param {Public.AcquireContext} context
   * @param {string | undefined} group
   * @param {number} tookMs
   */
  acquired({ strategy, outcome }, group, tookMs) {
    const series = this.#acquisitions.of(strategy, outcome, group)
    series.value++
    this.#acquireDuration.record(tookMs / 1_000, series.attributes)
  }

  /** @param {Public.WaitContext} context */
  waitBegan(context) {
    const { strategy, resources } = context
    const series = this.#queued.of(strategy, undefined, this.#groupOf(resources))
    series.value++
    this.#queuedIn.set(context, series)
  }

  /** @param {Public.WaitContext} context */
  waited(context) {
    const series = this.#queuedIn.get(context)
    if (series !== undefined) series.value--
    const { strategy, resources, outcome, waitedMs = 0 } = context
    const { attributes } = this.#waits.of(strategy, outcome, this.#groupOf(resources))
    this.#waitDuration.record(waitedMs / 1_000, attributes)
  }

  /**
   * @param {Public.ReleaseContext} context
   * @param {string | undefined} group
   */
  released({ strategy, outcome, heldMs }, group) {
    // What was lost is recorded by its loss.
    if (heldMs !== undefined && outcome !== 'lost') this.#held(strategy, outcome, group, heldMs)
  }

  /** @param {Public.LostMessage} message */
  lost({ strategy, resources, cause, heldMs }) {
    const group = this.#groupOf(resources)
    this.#losses.of(strategy, cause, group).value++
    this.#held(strategy, 'lost', group, heldMs)
  }

  /** @param {Public.RenewedMessage} message */
  renewed({ strategy, resources, outcome, lagMs }) {
    const { attributes } = this.#renewals.of(strategy, outcome, this.#groupOf(resources))
    this.#renewalLag.record(lagMs / 1_000, attributes)
  }

  stop() {
    for (const stop of this.#stops) stop()
  }

  /**
   * @param {string} strategy
   * @param {string | undefined} outcome
   * @param {string | undefined} group
   * @param {number} heldMs
   */
  #held(strategy, outcome, group, heldMs) {
    const { attributes } = this.#holds.of(strategy, outcome, group)
    this.#holdDuration.record(heldMs / 1_000, attributes)
  }
}

/** @param {ObservableResult} result */
function observeLeases(result) {
  const strategies = Object.values(STRATEGIES)
  const held = strategies.map(() => 0)
  let used = strategies.map(() => false)
  for (const calls of liveManagers()) {
    const { heldByStrategy, configured } = calls.direct.stats()
    for (const { number } of strategies) held[number] = (held[number] ?? 0) + (heldByStrategy[number] ?? 0)
    used = used.map((was, number) => was || configured[number] === true)
  }
  for (const { name, number } of strategies) {
    if (used[number]) result.observe(held[number] ?? 0, { [STRATEGY]: name })
  }
}

/** @param {ObservableResult} result */
function observeConnections(result) {
  const strategies = Object.values(STRATEGIES)
  /** @type {Map<string, { attributes: Attributes, open: number }>} */
  const servers = new Map()
  for (const calls of liveManagers()) {
    for (const { strategy, serverAddress, serverPort, open } of calls.direct.stats().connections) {
      const name = strategies.find(({ number }) => number === strategy)?.name
      const key = `${name} ${serverAddress} ${serverPort}`
      const attributes = {
        [STRATEGY]: name,
        [ATTRIBUTES.address]: serverAddress,
        ...(serverPort !== undefined && { [ATTRIBUTES.port]: serverPort }),
      }
      const entry = servers.get(key) ?? { attributes, open: 0 }
      entry.open += open
      servers.set(key, entry)
    }
  }
  for (const { attributes, open } of servers.values()) result.observe(open, attributes)
}

module.exports = { Metrics }
