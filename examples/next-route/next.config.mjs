export default {
  // The addon cannot be bundled: Node.js loads it from node_modules.
  serverExternalPackages: ['fencelock'],
}
