import { expect, test } from 'vitest'
import { createExposition } from './exposition.ts'

test('all requests within a second share one rendering of the metrics', async () => {
  let nowMs = 0
  let renderings = 0
  const expose = createExposition(
    { expose: async () => ({ contentType: 'text/plain', body: String(++renderings) }) },
    { monotonicMs: () => nowMs },
  )
  const bodies = async () => (await Promise.all([expose(), expose()])).map(({ body }) => body)
  expect(await bodies()).toEqual(['1', '1'])
  nowMs = 999
  expect(await bodies()).toEqual(['1', '1'])
  nowMs = 1_000
  expect(await bodies()).toEqual(['2', '2'])
})
