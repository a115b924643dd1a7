/** The packages that hold the addon, one for each platform. A clone of this repository has none of them. */
declare module '@fencelock/binding-*' {
  const addon: typeof import('../../binding.js')
  export = addon
}
