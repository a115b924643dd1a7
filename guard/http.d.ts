import type { FencedLock } from './fenced-lock.js'

/** The contents of a request's headers. On the server, pass it to a guard in place of the lock. */
export interface Fencing {
  /** The first of `resources`. */
  readonly resource: string
  readonly resources: readonly string[]
  readonly token: bigint
  /** The header `Fencing-Owner`; missing if the caller sent none. */
  readonly ownerHash?: string
}

/** The parameters and the Response of this runtime's `fetch`. */
type Fetch = typeof globalThis extends { fetch: infer F } ? F : never
type FetchInput = Fetch extends (input: infer I, ...rest: never[]) => unknown ? I : never
type FetchInit = Fetch extends (input: never, init?: infer I) => unknown ? I : never
type FetchResponse = Fetch extends (...args: never[]) => Promise<infer R> ? R : never

/**
 * The headers that carry a lock's token: `Fencing-Token`, a decimal; `Fencing-Resource`, percent-encoded
 * UTF-8, several resources separated by commas; and if the lock has an `owner`, `Fencing-Owner`: the first 64
 * bits of its SHA-256, as 16 hexadecimal digits. For any HTTP client. A token of 2^53 or more, which no lock
 * reaches, is written as well, but {@link httpFence} responds to it with 400.
 *
 * Throws a `TypeError` or `RangeError` with the code `INVALID_OPTION` if the argument is not a lock.
 * @example
 * await axios.put(url, body, { headers: fencingHeaders(lock) })
 */
export function fencingHeaders(lock: FencedLock): {
  'Fencing-Token': string
  'Fencing-Resource': string
  'Fencing-Owner'?: string
}

/**
 * `fetch` with the headers that carry the lock's token; they replace headers of these names in `init` or the
 * Request.
 *
 * Rejects with a `LockLostError` if `lock.held` is false, before anything is sent; with a `StaleTokenError`
 * if the service has seen a higher token, or an equal one of another owner (problem details of at most 16
 * KiB, which arrive within 2 s after the headers; otherwise it resolves with the response, status 409); and
 * as `fetch` does. Pass `lock.signal` to end the request when the lock is lost.
 * @example
 * await fencedFetch(lock, 'https://ledger.example/accounts/1', { method: 'PUT', body, signal: lock.signal })
 */
export function fencedFetch(lock: FencedLock, input: FetchInput, init?: FetchInit): Promise<FetchResponse>

/** A response with problem details (RFC 9457), ready to be sent. */
export interface FencingProblem {
  /** 409: the token is stale. 400: the headers are missing, or hold no token, resource or owner. */
  readonly status: 400 | 409
  readonly headers: Readonly<Record<string, string>>
  /**
   * JSON: `type`, `title`, `status`, `detail`; for 409 also `resource`, and `token` and `current` as decimal
   * strings. `type` is `urn:fencelock:stale-token` or `urn:fencelock:malformed-fencing`.
   */
  readonly body: string
}

/** The result of {@link HttpFence.check}: the request passed, or how to respond. */
export type FencingResult =
  | { readonly passed: true; readonly fencing: Fencing }
  | ({ readonly passed: false } & FencingProblem)

/** The options of {@link httpFence}. */
export interface HttpFenceOptions {
  /**
   * Returns the resource, or the resources, that a request is about. If the headers do not name exactly
   * these, the response is 400: a resource too many would be one whose fence the caller raises without a
   * right to it. A holder of several resources sends `{ resource, token: lock.token }` for a request about
   * one of them. Gets the framework's request, or Hono's context. Without this option the handler has to
   * check `fencing.resources` itself, because a caller may send a token for another resource; by then its
   * fence has been raised, so give the option wherever callers may write to some resources only.
   */
  resource?: ((request: any) => string | readonly string[]) | undefined
  /**
   * How far a token may be ahead of this service's clock, in milliseconds: an integer from 0, or `Infinity`.
   * If it is more, the response is 400. The tokens of fencelock are microseconds of a clock, unless a
   * `minToken` or an earlier clock was ahead; a caller who sends a much higher one shuts out all others after
   * it.
   * @default Infinity
   */
  maxAheadMs?: number | undefined
}

/**
 * Checks the token of a request before its handler runs, whatever the method: a GET advances the fence as
 * well, so that an older holder can no longer change what it returns.
 *
 * A newer holder may still pass this check while a handler runs. So the handler must write through the guard
 * as well, with `fencing` in place of the lock: `guard.set(fencing, …)`, `guard.run(fencing, …)`. An equal
 * token of the same owner passes there; a `StaleTokenError` is a 409, too: {@link HttpFence.problem}.
 *
 * The tokens of callers are trusted: admit only callers that may hold the lock. Who may write to a resource
 * can also shut others out of it, with a high token; see `maxAheadMs`. If the guard's store fails,
 * the request does not pass: the error goes to the framework's error handling.
 */
export interface HttpFence {
  /**
   * The check itself, for any framework. Takes headers of Node (`request.headers`) or of the Fetch standard.
   * `request` is passed to the option `resource`. Rejects with the guard's errors other than
   * `StaleTokenError`.
   * @example
   * const result = await fence.check(request.headers, request)
   * if (!result.passed) return respond(result.status, result.headers, result.body)
   */
  check(headers: object, request?: unknown): Promise<FencingResult>
  /**
   * For Node's `http`, Connect and Express. Sets `request.fencing`; errors go to `next`.
   * @example
   * app.put('/accounts/:id', fence.node, (request, response, next) => { … })
   * createServer((request, response) => fence.node(request, response, (error) => { … }))
   */
  readonly node: (request: any, response: any, next: (error?: unknown) => void) => void
  /**
   * A hook for Fastify. Sets `request.fencing`.
   * @example
   * app.put('/accounts/:id', { preHandler: fence.fastify }, async (request) => { … })
   */
  readonly fastify: (request: any, reply: any) => Promise<any>
  /**
   * A middleware for Hono. Sets `context.get('fencing')`, and responds with 409 if the handler throws a
   * `StaleTokenError`.
   * @example
   * app.put('/accounts/:id', fence.hono, async (context) => { … })
   */
  readonly hono: (context: any, next: () => Promise<void>) => Promise<any>
  /**
   * For `Bun.serve`, Deno and others that take a function from Request to Response. Responds with 409 if the
   * handler throws a `StaleTokenError`.
   * @example
   * Bun.serve({ fetch: fence.fetch(async (request, fencing) => { … }) })
   */
  fetch<R, A extends unknown[]>(
    handler: (request: R, fencing: Fencing, ...rest: A) => FetchResponse | Promise<FetchResponse>,
  ): (request: R, ...rest: A) => Promise<FetchResponse>
  /**
   * The response to an error of a handler: 409 for a `StaleTokenError`, `null` for any other. For the error
   * handlers of Express and Fastify.
   * @example
   * app.use((error, request, response, next) => {
   *   const problem = fence.problem(error)
   *   if (problem === null) return next(error)
   *   response.status(problem.status).set(problem.headers).send(problem.body)
   * })
   */
  problem(error: unknown): FencingProblem | null
}

/**
 * A fence for the requests of a service, backed by any guard.
 *
 * Throws a `TypeError` with the code `INVALID_OPTION` for invalid arguments.
 * @example
 * const fence = httpFence(guard, { resource: (request) => `account:${request.params.id}` })
 */
export function httpFence(
  guard: { advance(fencing: Fencing): Promise<unknown> },
  options?: HttpFenceOptions,
): HttpFence
