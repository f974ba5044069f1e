import type { RelyingParty } from '@curfew/contract'
import { expect, test } from 'vitest'
import { partyText } from './rp-text.ts'

// Goal: the text of a relying party is in good English.

test.each([
  [1, /^waiting +1 delivery$/m],
  [2, /^waiting +2 deliveries$/m],
])('%d waiting', (waiting, words) => {
  const status = { client_name: null, format: 'oidc', endpoints: [], waiting }
  const party = { client_id: 'shop', issuer: 'main', curfew: { endpoints: [] }, status }
  expect(partyText(party as unknown as RelyingParty)).toMatch(words)
})
