import { createOutbox } from '@curfew/client/outbox'

// An identity provider in its own process, which posts logouts through an outbox until SIGTERM. It prints `try ID` before each
// post and `done ID` after it. At SIGTERM it posts the rest, and prints `drained`.

const { CURFEW_URL: url = '', CURFEW_KEY: key = '', OUTBOX: directory = '', ISS: iss = '' } = process.env
const outbox = await createOutbox({ url, key, directory, onError: ({ message }) => console.error(message) })
let isStopping = false
process.once('SIGTERM', () => {
  isStopping = true
})

async function postUntilStopped(): Promise<void> {
  while (!isStopping) {
    const id = crypto.randomUUID()
    console.log(`try ${id}`)
    await outbox.post({ id, iss, sub: `user ${id}` })
    console.log(`done ${id}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
await Promise.all([1, 2, 3].map(postUntilStopped))
await outbox.drain()
await outbox.close()
console.log('drained')
