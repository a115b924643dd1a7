/**
 * What runs in the process of a subject: calls the functions of one module as it is told. The other side is
 * lib/remote.mjs.
 */
const functions = await import(`./${process.argv[2]}`)

/** @param {{ id: number, name: string, args: unknown[] }} message */
async function answer({ id, name, args }) {
  try {
    process.send?.({ id, value: await functions[name](...args) })
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? error.message : String(error) })
  }
}

process.on('message', (message) => void answer(/** @type {any} */ (message)))
// Whoever started us is gone.
process.once('disconnect', () => process.exit())
