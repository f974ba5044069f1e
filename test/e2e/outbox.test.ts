import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Client } from '@curfew/client'
import { expect, onTestFinished, test } from 'vitest'
import { startStandalone, type TestProcess, useProcesses } from '../support/processes.ts'

// Goal: an IdP that posts through the outbox loses no logout and logs out nothing twice, whichever process dies.
// Method: `curfew up`, an IdP process that posts all the time, and SIGKILL to one, to the other, and to both.

const processes = useProcesses()
const ISS = 'https://idp.example'

/** The ids of the lines that begin with this word. */
const idsOf = (word: 'try' | 'done', idps: readonly TestProcess[]) =>
  idps.flatMap(({ stdout }) =>
    [...stdout.matchAll(new RegExp(`^${word} (\\S+)$`, 'gm'))].map(([, id = '']) => id),
  )

/** Waits until the IdP has posted this many logouts more. */
async function progress(idp: TestProcess, count: number): Promise<void> {
  const target = idsOf('done', [idp]).length + count
  await expect.poll(() => idsOf('done', [idp]).length, { timeout: 30_000 }).toBeGreaterThanOrEqual(target)
}

async function eventsOf(client: Client): Promise<string[]> {
  const ids: string[] = []
  let cursor: string | null = null
  do {
    const page: Awaited<ReturnType<Client['listDeliveries']>> = await client.listDeliveries({
      ...{ client_id: 'mail', limit: 500 },
      ...(cursor !== null && { cursor }),
    })
    ids.push(...page.items.map(({ event_id }) => event_id))
    cursor = page.next_cursor
  } while (cursor !== null)
  return ids
}

async function startRelyingParty(): Promise<string> {
  const server = createServer((request, response) => {
    request.resume().once('end', () => response.end())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/logout`
}

test('every posted logout is one event in the ledger, whichever process is killed', {
  timeout: 180_000,
}, async () => {
  const [dataFolder, own] = [await processes.dataFolder(), await processes.dataFolder()]
  const env = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' }
  let curfew = await startStandalone(processes, { dataFolder, env })
  const { url, adminKey } = curfew
  const restartCurfew = async () => {
    const port = new URL(url).port
    curfew = await startStandalone(processes, { dataFolder, adminKey, env: { ...env, CURFEW_PORT: port } })
  }
  await curfew.client.putIssuer('main', { iss: ISS })
  await curfew.client.putRelyingParty('main', 'mail', { backchannel_logout_uri: await startRelyingParty() })

  const idps: TestProcess[] = []
  const startIdp = () => {
    const idp = processes.start({
      name: 'the IdP',
      file: 'test/support/outbox-idp.ts',
      env: { CURFEW_URL: url, CURFEW_KEY: adminKey ?? '', OUTBOX: join(own, 'outbox'), ISS },
    })
    idps.push(idp)
    return idp
  }
  let idp = startIdp()
  await progress(idp, 50)
  await curfew.process.kill()
  await progress(idp, 50)
  await idp.kill()
  idp = startIdp()
  await progress(idp, 50)
  await restartCurfew()
  await progress(idp, 50)
  await idp.kill()
  idp = startIdp()
  await progress(idp, 20)
  await Promise.all([curfew.process.kill(), idp.kill()])
  await restartCurfew()
  idp = startIdp()
  await progress(idp, 20)
  idp.signal('SIGTERM')
  await idp.says(/^drained$/m, 60_000)
  expect(await idp.exit()).toEqual({ code: 0, signal: null })

  const [confirmed, tried] = [idsOf('done', idps), idsOf('try', idps)]
  await expect
    .poll(async () => new Set(await eventsOf(curfew.client)).size, { timeout: 60_000 })
    .toBeGreaterThanOrEqual(confirmed.length)
  const events = await eventsOf(curfew.client)
  expect(confirmed.filter((id) => !events.includes(id))).toEqual([])
  expect(events.filter((id) => !tried.includes(id))).toEqual([])
  expect(events.filter((id, index) => events.indexOf(id) !== index)).toEqual([])
})
