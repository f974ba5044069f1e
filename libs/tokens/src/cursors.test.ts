import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { createCursorSealer } from './cursors.ts'

// Goal: a cursor reveals nothing, and works only for its own list and caller, in every process of the deployment.
// Method: cursors opened by other sealers, for other scopes, and after changes.

const MASTER_KEY = randomBytes(32)
const sealer = createCursorSealer(MASTER_KEY)

test('a cursor opens in another process, and reveals neither its text nor the exact length of the text', () => {
  const cursor = sealer.seal('["älice","s 1"]', 'list a')
  expect(createCursorSealer(MASTER_KEY).open(cursor, 'list a')).toBe('["älice","s 1"]')
  expect(Buffer.from(cursor, 'base64url').toString('latin1')).not.toMatch(/lice|s 1/)
  expect(sealer.seal('x'.repeat(100), 'list a').length).toBe(cursor.length)
  expect(sealer.seal('["älice","s 1"]', 'list a')).not.toBe(cursor)
})

test('a cursor that the old master key sealed opens during a rotation', () => {
  const cursor = sealer.seal('1', 'list a')
  expect(createCursorSealer(randomBytes(32), MASTER_KEY).open(cursor, 'list a')).toBe('1')
  expect(createCursorSealer(randomBytes(32)).open(cursor, 'list a')).toBeNull()
})

test('a cursor of another scope, a changed cursor and arbitrary text open to null', () => {
  const cursor = sealer.seal('1', 'list a')
  expect(sealer.open(cursor, 'list b')).toBeNull()
  const bytes = Buffer.from(cursor, 'base64url')
  for (const place of [0, 20, bytes.length - 1]) {
    const changed = Buffer.from(bytes)
    changed.writeUInt8(changed.readUInt8(place) ^ 1, place)
    expect(sealer.open(changed.toString('base64url'), 'list a')).toBeNull()
  }
  for (const text of ['', 'x', `${cursor}!`, cursor.slice(4), bytes.subarray(0, 32).toString('base64url')])
    expect(sealer.open(text, 'list a')).toBeNull()
})
