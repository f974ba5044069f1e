import { expect, test } from 'vitest'
import { newTraceparent, parseTraceparent, traceIdOf } from './traceparent.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'

test('a new traceparent is valid and unique', () => {
  const one = newTraceparent()
  expect(parseTraceparent(one)).toBe(one)
  expect(traceIdOf(one)).toHaveLength(32)
  expect(newTraceparent()).not.toBe(one)
})

// Trace Context, section 3.2: an invalid header is treated as absent; a later version is parsed as version 00.
test.each([
  [`00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`],
  [`cc-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`],
  [`cc-${TRACE}-${SPAN}-01-more`, `00-${TRACE}-${SPAN}-01`],
  [`00-${TRACE}-${SPAN}-01-more`, null],
  [`ff-${TRACE}-${SPAN}-01`, null],
  [`00-${'0'.repeat(32)}-${SPAN}-01`, null],
  [`00-${TRACE}-${'0'.repeat(16)}-01`, null],
  [`00-${TRACE.toUpperCase()}-${SPAN}-01`, null],
  [`00-${TRACE}-${SPAN}-01\n`, null],
  [undefined, null],
])('%s is parsed to %s', (header, read) => {
  expect(parseTraceparent(header)).toBe(read)
})
