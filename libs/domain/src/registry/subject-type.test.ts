import { describe, expect, test } from 'vitest'
import type { ClientId } from '../ids.ts'
import { readClient } from './client-metadata.ts'
import { isPairwise, pairwiseClients, subjectTypeOf } from './subject-type.ts'

describe('the subject type of a client', () => {
  test.each<[string, Record<string, unknown>, unknown]>([
    ['is its subject_type', { client_id: 'a', subject_type: 'pairwise' }, 'pairwise'],
    ['is not stated by metadata without it', { client_id: 'a' }, undefined],
    [
      'is pairwise for a Keycloak client with a mapper of pairwise subjects',
      {
        clientId: 'a',
        protocolMappers: [
          { protocolMapper: 'oidc-audience-mapper' },
          { protocolMapper: 'oidc-sha256-pairwise-sub-mapper' },
        ],
      },
      'pairwise',
    ],
    [
      'is not stated by a Keycloak client with other mappers',
      { clientId: 'a', protocolMappers: [null, {}] },
      undefined,
    ],
  ])('%s', (_, metadata, type) => expect(subjectTypeOf(readClient(metadata))?.value).toBe(type))
})

test('a client without a subject type has its issuer’s, and its own overrides it', () => {
  const [own, other] = ['own', 'other'] as unknown as [ClientId, ClientId]
  const typesAt = (issuer: 'public' | 'pairwise', stated: 'public' | 'pairwise') => {
    const clients = pairwiseClients(issuer, [
      [own, stated],
      [other, null],
    ])
    return [isPairwise(clients, own), isPairwise(clients, other)]
  }
  expect(typesAt('public', 'pairwise')).toEqual([true, false])
  expect(typesAt('pairwise', 'public')).toEqual([false, true])
  expect(
    pairwiseClients('public', [
      [own, 'public'],
      [other, null],
    ]),
  ).toBeNull()
})
