import { expect, test } from 'vitest'
import { startStandalone, useProcesses } from '../support/processes.ts'
import { openBrowser } from './browser.ts'
import { openExpressRp } from './express-rp.ts'
import { openIdp } from './idp.ts'

// Goal: a logout at the IdP while Curfew is dead ends the session at the RP once Curfew is back.
// Method: oidc-provider with the code of docs/idp/oidc-provider.md, express-openid-connect as the RP, and `curfew up`, which is
// killed and started again.

const processes = useProcesses()

test('a logout at oidc-provider while Curfew is dead ends the session at the RP after the restart', {
  timeout: 120_000,
}, async () => {
  const dataFolder = await processes.dataFolder()
  const env = { CURFEW_ALLOWED_NETWORKS: '127.0.0.0/8' }
  const curfew = await startStandalone(processes, { dataFolder, env })
  const { url, client } = curfew
  const adminKey = curfew.adminKey ?? ''
  const idp = await openIdp(
    {
      ...{ url, client, keyFor: () => adminKey },
      call: (method, path, body) =>
        fetch(url + path, {
          method,
          headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' },
          body: JSON.stringify(body),
        }),
    },
    { name: 'provider' },
  )
  const shop = await openExpressRp(idp, { name: 'shop', settings: { subject_claims: 'sid' } })
  try {
    const [laptop, phone] = [openBrowser(), openBrowser()]
    const sid = await shop.logIn(laptop, 'alice')
    await shop.logIn(phone, 'alice')
    await curfew.process.kill()
    await idp.logOut(laptop)
    expect(idp.posted).toHaveLength(1)
    expect(await shop.userOf(laptop)).toBe('alice')

    await startStandalone(processes, {
      dataFolder,
      adminKey,
      env: { ...env, CURFEW_PORT: new URL(url).port },
    })
    await expect.poll(() => shop.userOf(laptop), { timeout: 30_000 }).toBeNull()
    expect(await shop.userOf(phone)).toBe('alice')
    const { items } = await client.listDeliveries({ client_id: shop.clientId })
    expect(items).toMatchObject([{ event_id: idp.posted[0], sid, state: 'acknowledged' }])
  } finally {
    await shop.close()
    await idp.close()
  }
})
