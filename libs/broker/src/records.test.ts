import type { KafkaMessage } from 'kafkajs'
import { expect, test } from 'vitest'
import { fromMessage } from './records.ts'

// Goal: no unusual record of a foreign producer blocks its partition. kafkajs sends no headers without a value; other clients do.

const place = { lane: 'interactive', topic: 't', partition: 3 } as const
const received = (headers: object) =>
  fromMessage({ key: null, value: null, headers, offset: '7' } as unknown as KafkaMessage, place)

test('a header without a value reads as absent', () => {
  expect(received({ ce_id: null, ce_source: [Buffer.from('a'), null] })).toEqual({
    ...{ lane: 'interactive', key: '', value: new Uint8Array(), headers: {}, position: 't/3@7' },
  })
})

test('a header may have any name', () => {
  const { headers } = received({ ['__proto__']: Buffer.from('a'), constructor: [Object, Buffer.from('b')] })
  expect(Object.entries(headers)).toEqual([
    ['__proto__', 'a'],
    ['constructor', 'b'],
  ])
})
