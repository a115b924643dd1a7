'use strict'

/**
 * What instances with private members need besides them. Private members are no properties: to whatever
 * compares or copies objects all instances look the same, and empty; and a Proxy does not have them.
 */

/**
 * Where an instance refers to itself: behind a Proxy, `this[TARGET]` is the instance that has the members.
 */
const TARGET = Symbol('fencelock.target')

/**
 * To be called by the constructor. The symbol is different for each instance, so that a deep comparison tells
 * them apart, and cannot be cloned, so that structuredClone fails instead of making an empty object.
 * @param {object} instance
 * @param {string} hint the description of that symbol, which the error of structuredClone shows
 */
function identify(instance, hint) {
  const properties = /** @type {Record<PropertyKey, unknown>} */ (instance)
  properties.identity = Symbol(hint)
  properties[TARGET] = instance
}

/**
 * Makes the methods and accessors of a class work on a transparent Proxy around an instance, as containers
 * for dependencies and tracers make them.
 * @param {Function} Class
 */
function throughProxies(Class) {
  const prototype = /** @type {object} */ (Class.prototype)
  for (const key of Reflect.ownKeys(prototype)) {
    if (key === 'constructor') continue
    const member = /** @type {PropertyDescriptor} */ (Object.getOwnPropertyDescriptor(prototype, key))
    const { value, get } = /** @type {{ value?: unknown, get?: () => unknown }} */ (member)
    if (typeof value === 'function') member.value = onTarget(value)
    if (get !== undefined) member.get = accessorOnTarget(get)
    Object.defineProperty(prototype, key, member)
  }
}

/** @typedef {{ readonly [TARGET]?: object }} Instance */

/** @param {Function} method */
function onTarget(method) {
  /**
   * @this {Instance}
   * @param {...unknown} args
   */
  function call(...args) {
    return /** @type {unknown} */ (Reflect.apply(method, this[TARGET] ?? this, args))
  }
  return like(method, call)
}

/** @param {() => unknown} get */
function accessorOnTarget(get) {
  /** @this {Instance} */
  function read() {
    return get.call(this[TARGET] ?? this)
  }
  return like(get, read)
}

/**
 * @template {Function} F
 * @param {Function} original
 * @param {F} wrapper
 */
function like(original, wrapper) {
  for (const key of ['name', 'length']) {
    Object.defineProperty(wrapper, key, { value: Reflect.get(original, key), configurable: true })
  }
  return wrapper
}

/**
 * The instance itself, of a transparent Proxy around it, too.
 * @param {object} instance
 */
function targetOf(instance) {
  return /** @type {Instance} */ (instance)[TARGET] ?? instance
}

module.exports = { identify, targetOf, throughProxies }
