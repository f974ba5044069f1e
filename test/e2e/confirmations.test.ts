import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { runCurfew, startStandalone, useProcesses } from '../support/processes.ts'
import { openRelyingParty } from '../support/relying-party.ts'
import { openWebhookReceiver, signers } from '../support/webhook-receiver.ts'

// Goal: an application that starts logouts learns their result, also after a crash of Curfew.
// Method: `curfew up` in its own process, killed with SIGKILL; two relying parties; a receiver that checks signatures.

const processes = useProcesses()
const ISS = 'https://idp.example'
const ENV = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' }

test('a client learns of incomplete and complete logouts, and loses no confirmation to a crash', async () => {
  await using hook = await openWebhookReceiver()
  const dataFolder = await processes.dataFolder()
  const first = await startStandalone(processes, { dataFolder, env: ENV })
  await first.client.putIssuer('main', { iss: ISS })
  const file = join(dataFolder, 'portal.json')
  await writeFile(
    file,
    JSON.stringify({
      client_id: 'portal',
      curfew: { confirmation_uri: hook.url, confirmation_deadline_ms: 6_000 },
    }),
  )
  const put = await runCurfew(processes, ['rp', 'put', file], {
    CURFEW_URL: first.url,
    CURFEW_KEY: first.adminKey ?? '',
  })
  const [, secret = ''] = /^(whsec_\S+)$/m.exec(put.stdout) ?? []
  expect(put).toMatchObject({ code: 0, stderr: '' })
  const [wiki, mail] = await Promise.all(
    ['wiki', 'mail'].map((clientId) =>
      openRelyingParty(first, { clientId, curfew: { retry_schedule_ms: [4_000, 4_000, 4_000, 4_000] } }),
    ),
  )
  onTestFinished(async () => void (await Promise.all([wiki?.close(), mail?.close()])))
  const logout = async (client: typeof first.client, sid: string) =>
    (await client.postLogoutEvent({ iss: ISS, sub: 'alice', sid, scope: 'session', initiator: 'portal' })).id

  await wiki?.goDown()
  const late = await logout(first.client, 'one down')
  const [incomplete] = await hook.told(1)
  expect(incomplete?.data).toMatchObject({
    ...{ event_id: late, sid: 'one down', complete: false, settled_at: null },
    applications: [
      { client_id: 'mail', state: 'signed_out' },
      { client_id: 'wiki', state: 'ending' },
    ],
  })
  await wiki?.comeUp()
  await first.client.getLogoutEvent(late, { wait: 20 })

  const whole = await logout(first.client, 'both up')
  const [, complete] = await hook.told(2)
  expect(complete?.data).toMatchObject({ event_id: whole, complete: true, settled_at: expect.any(String) })

  // Killed between two attempts.
  hook.behave(503)
  await logout(first.client, 'killed')
  await hook.told(3)
  await logout(first.client, 'killed at once')
  first.process.signal('SIGKILL')
  await first.process.exit()
  hook.behave(204)
  const before = hook.received.length
  const { adminKey } = first
  const second = await startStandalone(processes, { dataFolder, env: ENV, adminKey })
  await expect
    .poll(() => hook.received.slice(before).map(({ data }) => data.sid), { timeout: 80_000, interval: 100 })
    .toEqual(expect.arrayContaining(['killed', 'killed at once']))
  const ids = Map.groupBy(hook.received, ({ data }) => data.sid)
  for (const [sid, received] of ids) {
    expect(new Set(received.map(({ id }) => id)).size).toBe(1)
    if (sid === 'one down' || sid === 'both up') expect(received).toHaveLength(1)
  }
  for (const one of hook.received) expect(signers(one, [secret])).toEqual([0])
  await expect
    .poll(async () =>
      (await second.client.listConfirmations('main', 'portal')).items.map(({ state }) => state),
    )
    .toEqual(['delivered', 'delivered', 'delivered', 'delivered'])
}, 180_000)
