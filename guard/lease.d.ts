/**
 * What a guard takes as a lock: a lock of this package, or what came over the wire of one. The guard looks at `held`
 * where it is there, and otherwise goes by the token.
 */
export type Fenced = {
  /** From 1n to 2^63 - 1. */
  readonly token: bigint
  /** `false` is refused with a `LockLostError`, before anything is sent. */
  readonly held?: boolean | undefined
} & (
  | { readonly resource: string; readonly resources?: readonly string[] | undefined }
  | { readonly resources: readonly string[] }
)
