/**
 * The main module of every worker process: calls the functions of one module as remote.mjs requests.
 */
const functions = await import(String(process.argv[2]))

/** @param {{ id: number, name: string, args: unknown[] }} message */
async function reply({ id, name, args }) {
  try {
    process.send?.({ id, value: await functions[name](...args) })
  } catch (error) {
    process.send?.({ id, error: error instanceof Error ? error.message : String(error) })
  }
}

process.on('message', (message) => void reply(/** @type {any} */ (message)))
// The parent process has ended.
process.once('disconnect', () => process.exit())
