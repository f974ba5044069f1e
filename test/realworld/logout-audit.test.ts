import type { Audit, AuditSetupInput } from '@curfew/contract'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Curfew, eventually, openCurfew } from '../support/curfew.ts'
import { type ExpressRp, openExpressRp } from './express-rp.ts'
import { type Idp, openIdp } from './idp.ts'

// Goal: an audit of a real RP logs in through the forms of a real IdP, passes, and finds the same RP when it answers 200 and ends
// nothing. Method: oidc-provider with its forms of development; express-openid-connect, whose handler of logouts is then replaced.

let curfew: Curfew
let idp: Idp
let rp: ExpressRp
beforeAll(async () => {
  curfew = await openCurfew({ bookkeepers: 1 })
  idp = await openIdp(curfew, { name: 'provider' })
  rp = await openExpressRp(idp, { name: 'audited' })
})
afterAll(async () => {
  await curfew.stop()
  await rp.close()
  await idp.close()
})

const setup = (more: Partial<AuditSetupInput['login']> = {}): AuditSetupInput => ({
  login: {
    ...{ kind: 'oidc', start_url: `${rp.url}/login`, username: 'auditor', password: 'any', sub: 'auditor' },
    ...(more as object),
  },
  check: {
    url: `${rp.url}/profile`,
    logged_in: { status: [200] },
    logged_out: { status: [302] },
    location_prefix: `${idp.iss}/auth`,
  },
  timeout_s: 3,
})

async function audited(): Promise<Audit> {
  const { audits } = await curfew.client.runAudits({ issuer: idp.name, clients: [rp.clientId] })
  return eventually(async () => {
    const audit = await curfew.client.getAudit(audits[0]?.id ?? '')
    expect(audit.state).toBe('ended')
    return audit
  })
}

test('express-openid-connect passes, with a login through the forms of oidc-provider', async () => {
  await curfew.client.putAuditSetup(idp.name, rp.clientId, setup())
  expect(await audited()).toMatchObject({
    ...{ result: 'passed', reason: null, delivery: { state: 'acknowledged', level: 'done' } },
    check: { says: 'logged_out', status: 302 },
  })
  expect(rp.received).toMatchObject([{ claims: { sub: 'auditor' }, status: 204 }])
})

test('the same RP fails when it answers 200 and ends nothing, and only the audit says so', async () => {
  await curfew.client.putAuditSetup(idp.name, rp.clientId, setup())
  rp.failNext(200)
  const audit = await audited()
  expect(audit).toMatchObject({
    ...{ result: 'failed', reason: 'session_survived', delivery: { state: 'acknowledged', level: 'done' } },
    check: { says: 'logged_in', status: 200 },
  })
  const id = audit.event_id ?? ''
  const event = await curfew.client.getLogoutEvent(id, { issuer: idp.name })
  expect(event).toMatchObject({ status: 'settled', acknowledged: 1, total: 1 })
  expect(await curfew.client.getEventSummary(id, { issuer: idp.name })).toMatchObject({ status: 'complete' })
  expect((await curfew.client.listDeadLetters()).items).toEqual([])
})

test('a wrong origin of the forms gets no password, and the audit says where the form was', async () => {
  // The issuer of this set-up is another origin than the IdP at which the RP logs in.
  await curfew.client.putIssuer('elsewhere', { iss: 'https://idp.elsewhere.example' })
  await curfew.client.putRelyingParty('elsewhere', 'same-rp', { backchannel_logout_uri: rp.logoutUri })
  await curfew.client.putAuditSetup('elsewhere', 'same-rp', setup())
  const { audits } = await curfew.client.runAudits({ issuer: 'elsewhere' })
  const audit = await eventually(async () => {
    const found = await curfew.client.getAudit(audits[0]?.id ?? '')
    expect(found.state).toBe('ended')
    return found
  })
  expect(audit).toMatchObject({ result: 'inconclusive', reason: 'login_failed', event_id: null })
  expect(audit.what).toContain(`A form of ${idp.iss} asks for the password`)
})
