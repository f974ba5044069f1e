import { EventLogDegradedError } from '@curfew/domain'
import { expect, test } from 'vitest'
import { checkSpool, SpoolDegradedError, tolerant } from './spool.ts'

// Goal: /readyz says whether the relay can store a token. A proxy sends posts elsewhere only if it cannot.

const full = { check: () => Promise.reject(new Error('the spool is full')) }
const empty = { check: async () => undefined }
const away = () => Promise.reject(new Error('the event log is away'))

test('without the event log the service works in part while the spool takes tokens', async () => {
  await expect(tolerant(away, empty)()).rejects.toThrow(EventLogDegradedError)
  const failed = tolerant(away, full)()
  await expect(failed).rejects.toThrow(/the event log is away; the spool is full/)
  await expect(failed).rejects.not.toThrow(EventLogDegradedError)
  await expect(tolerant(async () => undefined, full)()).resolves.toBeUndefined()
})

test('the spool is degraded while tokens wait in it, and while it takes none', async () => {
  const size = (entries: number) => () => ({ entries, bytes: 0 })
  await expect(checkSpool({ ...empty, size: size(0) })).resolves.toBeUndefined()
  await expect(checkSpool({ ...empty, size: size(2) })).rejects.toThrow(/2 logout tokens wait/)
  await expect(checkSpool({ ...full, size: size(0) })).rejects.toThrow(SpoolDegradedError)
})
