import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createGuardedClient } from '@curfew/outbound'
import { expect, test } from 'vitest'
import { createVisitor } from './visitor.ts'

test('a relying party with new names of cookies in each answer does not fill the memory, and known cookies still change', async () => {
  let asked = 0
  let sent = ''
  const server = createServer((request, response) => {
    asked += 1
    sent = request.headers.cookie ?? ''
    const cookies = Array.from({ length: 50 }, (_, at) => `c${asked}-${at}=${'x'.repeat(10)}`)
    response.setHeader('set-cookie', [`session=${asked}`, `long=${'y'.repeat(9_000)}`, ...cookies])
    response.end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const client = createGuardedClient({ allowedNetworks: ['127.0.0.0/8'] })
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const visitor = createVisitor({
      ...{ client, access: { allowedNetworks: null }, tls: null, ownOrigins: new Set<string>() },
    })
    for (let visit = 1; visit <= 10; visit++) {
      expect(await visitor.visit({ url, timeoutMs: 5_000 })).toMatchObject({ status: 200 })
    }
    expect(sent.split('; ')).toHaveLength(200)
    expect(sent).toContain('session=9')
    expect(sent).not.toContain('long=')
  } finally {
    await client.close()
    server.close()
  }
})
