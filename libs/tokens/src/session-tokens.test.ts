import { SessionTokensError } from '@curfew/domain'
import { expect, test } from 'vitest'
import { createSessionTokenSealer } from './session-tokens.ts'

// Goal: the sealed tokens of a session cannot take the place of those of another one. Method: opens them for other sessions.

test('the tokens of a session open for the same session of the same client only', async () => {
  const sealer = createSessionTokenSealer(Buffer.alloc(32, 1))
  const owner = { iss: 'https://idp.example', sid: 's1', clientId: 'shop' } as never as Parameters<
    typeof sealer.open
  >[1]
  const tokens = [{ token: 'a refresh token', hint: 'refresh_token' }] as const
  const sealed = await sealer.seal(tokens, owner)
  expect(await sealer.open(sealed, owner)).toEqual(tokens)
  for (const other of [{ sid: 's2' }, { clientId: 'mail' }, { iss: 'https://other.example' }])
    await expect(sealer.open(sealed, { ...owner, ...other } as never)).rejects.toThrow(SessionTokensError)
  const another = createSessionTokenSealer(Buffer.alloc(32, 2))
  await expect(another.open(sealed, owner)).rejects.toThrow(/CURFEW_MASTER_KEY_OLD/)
})
