/** Checks documents against cli/schema.json, by those keywords of JSON Schema that it uses. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'

import { root } from '../fixtures/temp'

interface Schema {
  $ref?: string
  anyOf?: Schema[]
  const?: unknown
  enum?: unknown[]
  type?: string
  pattern?: string
  minimum?: number
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean
  items?: Schema
  description?: string
}

const keywords = new Set([
  '$ref',
  'anyOf',
  'const',
  'enum',
  'type',
  'pattern',
  'minimum',
  'properties',
  'required',
  'additionalProperties',
  'items',
  'description',
])

const { $defs } = JSON.parse(readFileSync(join(root, 'cli/schema.json'), 'utf8')) as {
  $defs: Record<string, Schema>
}

/** The document, if it is one of this command; otherwise the test fails. */
export function conforming(command: string, text: string): any {
  const value = JSON.parse(text)
  const found = problems(value, { $ref: `#/$defs/${command}` }, command)
  expect({ text, found }).toEqual({ text, found: [] })
  return value
}

function problems(value: unknown, schema: Schema, path: string): string[] {
  const unknown = Object.keys(schema).filter((key) => !keywords.has(key))
  if (unknown.length > 0) throw new Error(`this checker does not know ${unknown.join(', ')}`)
  if (schema.$ref !== undefined) {
    const target = $defs[schema.$ref.replace('#/$defs/', '')]
    if (target === undefined) throw new Error(`there is no ${schema.$ref}`)
    return problems(value, target, path)
  }
  if (schema.anyOf !== undefined) {
    const all = schema.anyOf.map((each) => problems(value, each, path))
    return all.some((each) => each.length === 0) ? [] : [`${path}: none of ${JSON.stringify(all)}`]
  }
  return [...ofValue(value, schema, path), ...ofParts(value, schema, path)]
}

function ofValue(value: unknown, schema: Schema, path: string): string[] {
  const found: string[] = []
  if ('const' in schema && value !== schema.const)
    found.push(`${path} is not ${JSON.stringify(schema.const)}`)
  if (schema.enum && !schema.enum.includes(value)) found.push(`${path} is none of ${schema.enum.join(', ')}`)
  if (schema.type !== undefined && !isOfType(value, schema.type)) found.push(`${path} is not ${schema.type}`)
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(String(value)))
    found.push(`${path} does not match ${schema.pattern}`)
  if (schema.minimum !== undefined && !(Number(value) >= schema.minimum)) found.push(`${path} is too small`)
  return found
}

function ofParts(value: unknown, schema: Schema, path: string): string[] {
  if (Array.isArray(value))
    return value.flatMap((item, index) => problems(item, schema.items ?? {}, `${path}[${index}]`))
  if (typeof value !== 'object' || value === null) return []
  const { properties = {}, required = [], additionalProperties = true } = schema
  return [
    ...required.filter((key) => !(key in value)).map((key) => `${path}.${key} is missing`),
    ...Object.entries(value).flatMap(([key, part]) => {
      const own = properties[key]
      if (own !== undefined) return problems(part, own, `${path}.${key}`)
      return additionalProperties ? [] : [`${path}.${key} is not in the schema`]
    }),
  ]
}

function isOfType(value: unknown, type: string): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'integer') return Number.isInteger(value)
  if (type === 'object') return typeof value === 'object' && value !== null && !Array.isArray(value)
  return typeof value === type
}
