import { openSpool } from './spool.ts'

// A process that appends numbers to a spool until it is killed. It prints each number after its append was confirmed.

const [directory = ''] = process.argv.slice(2)
const spool = await openSpool({ directory })
let next = 0
const append = async () => {
  for (;;) {
    const number = next++
    await spool.append(Buffer.from(`${number}:${'x'.repeat(number % 2_000)}`))
    process.stdout.write(`${number}\n`)
  }
}
await Promise.all(Array.from({ length: 20 }, append))
