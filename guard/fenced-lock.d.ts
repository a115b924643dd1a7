/**
 * What a guard takes as a lock: any object with a token and the resource, or resources, that it is for. A `Lock` of
 * fencelock is one. So is `{ resource, token }`, with a token that came to this process in a message: guards need no
 * lock, only its token.
 */
export type FencedLock = {
  /** A bigint from 1n to 2^63 - 1. Of a JSON message make one with `BigInt(text)`. */
  readonly token: bigint
  /** When it is `false`, the guard refuses with a `LockLostError` before it sends anything. */
  readonly held?: boolean | undefined
  /** Looked at with `abortOnLoss` of the SQL guards only. */
  readonly signal?: AbortSignal | undefined
  /** Only for the messages and the `strategy` of errors. */
  readonly strategy?: string | undefined
} & (
  | { readonly resource: string; readonly resources?: undefined }
  | { readonly resources: readonly string[]; readonly resource?: string | undefined }
)
