/**
 * What a guard accepts as a lock: any object with a token and the resource, or resources, that the token is
 * for. A `Lock` of fencelock is one. So is `{ resource, token }`, with a token that this process received in
 * a message: a guard needs only the token of a lock. With the owner it also refuses an equal token of another
 * owner, which a network split can give to two.
 */
export type FencedLock = {
  /** A bigint from 1n to 2^63 - 1. Convert the text of a JSON message with `BigInt(text)`. */
  readonly token: bigint
  /**
   * The lock's `owner`, not empty. Without it, or if the data has none beside this token, an equal token
   * passes.
   */
  readonly owner?: string | undefined
  /**
   * Used in place of `owner` if it is given: the first 64 bits of the SHA-256 of the owner's UTF-8, as 16
   * hexadecimal digits in lower case. It is what an HTTP request has of the owner.
   */
  readonly ownerHash?: string | undefined
  /** If it is `false`, the guard rejects with a `LockLostError` before it sends anything. */
  readonly held?: boolean | undefined
  /** Used only by the option `abortOnLoss` of the SQL guards. */
  readonly signal?: AbortSignal | undefined
  /** Used only for the `strategy` of errors. */
  readonly strategy?: string | undefined
} & (
  | { readonly resource: string; readonly resources?: undefined }
  | { readonly resources: readonly string[]; readonly resource?: string | undefined }
)
