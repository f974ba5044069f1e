import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

// A child process that takes the spans of the measured Curfew, and drops them. It answers with the number of received bytes.

let bytes = 0
const server = createServer((request, response) => {
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  request.once('end', () => response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end())
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
process.on('message', () => process.send?.(bytes))
process.once('disconnect', () => process.exit(0))
process.send?.((server.address() as AddressInfo).port)
