import type { FencedLock } from './fenced-lock.js'

/** What the headers of a request said: takes the place of the lock in a guard, on the server's side. */
export interface Fencing {
  /** The first of `resources`. */
  readonly resource: string
  readonly resources: readonly string[]
  readonly token: bigint
}

/** A Request or a Response of the Fetch standard, and what `fetch` takes, as this runtime's types have them. */
type Fetch = typeof globalThis extends { fetch: infer F } ? F : never
type FetchInput = Fetch extends (input: infer I, ...rest: never[]) => unknown ? I : never
type FetchInit = Fetch extends (input: never, init?: infer I) => unknown ? I : never
type FetchResponse = Fetch extends (...args: never[]) => Promise<infer R> ? R : never

/**
 * The headers that carry a lock's token: `Fencing-Token`, a decimal, and `Fencing-Resource`, percent-encoded UTF-8, several
 * resources separated by commas. For any HTTP client. A token from 2^53 on, which no lock reaches, is written here, and
 * {@link httpFence} answers 400 to it.
 *
 * Throws a `TypeError` or `RangeError` of code `INVALID_OPTION` for what is no lock.
 * @example
 * await axios.put(url, body, { headers: fencingHeaders(lock) })
 */
export function fencingHeaders(lock: FencedLock): { 'Fencing-Token': string; 'Fencing-Resource': string }

/**
 * `fetch` with the headers that carry the lock's token; they replace what `init` or the Request has of these names.
 *
 * Rejects with a `LockLostError` when `lock.held` is false, before anything is sent; with a `StaleTokenError` when the other
 * side has seen a higher token; and as `fetch` does. Give it `lock.signal` to end the request when the lock is lost.
 * @example
 * await fencedFetch(lock, 'https://ledger.example/accounts/1', { method: 'PUT', body, signal: lock.signal })
 */
export function fencedFetch(lock: FencedLock, input: FetchInput, init?: FetchInit): Promise<FetchResponse>

/** An answer of problem details (RFC 9457), ready to be sent. */
export interface FencingProblem {
  /** 409: the token is stale. 400: the headers are missing, or hold no token and resource. */
  readonly status: 400 | 409
  readonly headers: Readonly<Record<string, string>>
  /**
   * JSON: `type`, `title`, `status`, `detail`; for 409 also `resource`, and `token` and `current` as decimal strings. `type`
   * is `urn:fencelock:stale-token` or `urn:fencelock:malformed-fencing`.
   */
  readonly body: string
}

/** What {@link HttpFence.check} found: the request may pass, or what to answer. */
export type FencingResult =
  | { readonly passed: true; readonly fencing: Fencing }
  | ({ readonly passed: false } & FencingProblem)

/** The options of {@link httpFence}. */
export interface HttpFenceOptions {
  /**
   * The resource, or the resources, that a request is about: the headers must name it, or the answer is 400. It gets what
   * the framework gives: the request, or Hono's context. Without it the handler has to look at `fencing.resources` itself,
   * because a caller may send a token of another resource.
   */
  resource?: ((request: any) => string | readonly string[]) | undefined
}

/**
 * Checks the token of requests before their handler runs, whatever their method: a GET advances the fence too, so that
 * what it answers can no longer be changed by an older holder.
 *
 * This is the gate. A newer holder may still pass it while a handler runs, so what the handler writes belongs into the
 * guard as well, with `fencing` in place of the lock: `guard.set(fencing, …)`, `guard.run(fencing, …)`. An equal token
 * passes; a `StaleTokenError` there is a 409 too: {@link HttpFence.problem}.
 *
 * Tokens are taken from callers as they are: let only those in that may hold the lock. Where the guard's store fails, the
 * request is not let through: the error goes where the framework handles errors.
 */
export interface HttpFence {
  /**
   * The check itself, for any framework. Takes the headers of Node (`request.headers`), or of the Fetch standard. `request`
   * is what the option `resource` gets. Rejects with the guard's errors, other than `StaleTokenError`.
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
   * A middleware for Hono. Sets `context.get('fencing')`, and answers 409 when the handler throws a `StaleTokenError`.
   * @example
   * app.put('/accounts/:id', fence.hono, async (context) => { … })
   */
  readonly hono: (context: any, next: () => Promise<void>) => Promise<any>
  /**
   * For `Bun.serve`, Deno and whatever else takes a function from Request to Response. Answers 409 when the handler throws
   * a `StaleTokenError`.
   * @example
   * Bun.serve({ fetch: fence.fetch(async (request, fencing) => { … }) })
   */
  fetch<R, A extends unknown[]>(
    handler: (request: R, fencing: Fencing, ...rest: A) => FetchResponse | Promise<FetchResponse>,
  ): (request: R, ...rest: A) => Promise<FetchResponse>
  /**
   * What to answer to an error of a handler: 409 for a `StaleTokenError`, `null` for any other. For the error handlers of
   * Express and Fastify.
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
 * Throws a `TypeError` of code `INVALID_OPTION` for what is no guard.
 * @example
 * const fence = httpFence(guard, { resource: (request) => `account:${request.params.id}` })
 */
export function httpFence(
  guard: { advance(fencing: Fencing): Promise<unknown> },
  options?: HttpFenceOptions,
): HttpFence
