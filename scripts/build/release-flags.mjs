/**
 * How cargo makes an addon as it is published.
 */

/** The addon's crate, with the optimisation at link time that its profile asks for. */
export const asPublished = ['--release', '--lib']

/**
 * For rustc, in every crate: inline less. An addon of 3.90 MB becomes one of 3.64 MB.
 */
export const rustFlags = ['-Cllvm-args=-inline-threshold=25']

/** What cargo calls the library. @param {{ os: NodeJS.Platform }} platform */
export function library({ os }) {
  if (os === 'win32') return 'fencelock.dll'
  return os === 'darwin' ? 'libfencelock.dylib' : 'libfencelock.so'
}
