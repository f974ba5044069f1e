import { randomUUID } from 'node:crypto'
import { createReplay, takeReplayBatch } from '@curfew/ledger'
import { expect, test } from 'vitest'
import { pileUp, registerQuietly } from '../integration/dead-letters-support.ts'
import { eventually, openCurfew } from '../support/curfew.ts'
import { describeWithKafka, uniquePrefix } from '../support/kafka.ts'
import { listen, openPublisher } from '../support/kafka-listener.ts'

// Goal: the topic gets every dead letter with its reason, whatever fails in between, and gets it again only after it was replayed
// and failed again. Method: a real broker, real bookkeepers, and an independent reader.

await describeWithKafka('dead letters', (brokers) => {
  test('are published once with their reason by any number of bookkeepers, and again when they fail again', async () => {
    const prefix = uniquePrefix()
    const publisher = openPublisher(brokers, prefix)
    await using curfew = await openCurfew({ workers: 0, bookkeepers: 2, publisher })
    await registerQuietly(curfew.call, ['shop'])
    const ids = await pileUp(curfew.db, {
      clientId: 'shop',
      count: 450,
      reason: 'refused',
      attempt: { status: 400, errorClass: 'http_400', error: 'invalid_request' },
    })
    const unannounced = () => curfew.db.query('select from deliveries where announced_at is null')
    await eventually(async () => expect((await unannounced()).rows).toEqual([]))
    const published = await listen(brokers, 'deadLetters', prefix)
    await eventually(() => expect(published.length).toBeGreaterThanOrEqual(450))
    expect(published.map(({ key }) => key).toSorted()).toEqual(ids)
    const [id = ''] = ids
    const first = published.find(({ key }) => key === id)
    expect(first).toEqual({
      key: id,
      headers: {
        ce_specversion: '1.0',
        ce_id: `${id}.0`,
        ce_source: '/v1/issuers/main/relying-parties/shop',
        ce_type: 'curfew.dead-letter.v1',
        ce_time: expect.stringMatching(/Z$/),
        'content-type': 'application/json',
      },
      value: {
        delivery_id: id,
        event_id: expect.any(String),
        issuer: 'main',
        client_id: 'shop',
        channel: 'backchannel',
        reason: 'refused',
        what: expect.stringContaining('it answered 400 (invalid_request)'),
        fix: expect.stringMatching(/keys/),
        error: 'invalid_request',
        error_description: null,
        dead_lettered_at: first?.headers.ce_time,
        generation: 0,
      },
    })

    const job = await createReplay(curfew.db, {
      id: randomUUID(),
      filter: { issuer: null, clientIds: null, channel: null, reason: null, from: null, to: null, ids: [id] },
      includeLapsed: false,
      requestedBy: 'test',
    })
    // A bookkeeper may have taken the batch first.
    await eventually(async () => {
      await takeReplayBatch(curfew.db, { job, limit: 10, pauseMs: 0 })
      expect((await unannounced()).rows).toHaveLength(1)
    })
    await curfew.db.query(
      `update deliveries set state = 'dead_lettered', due_at = null, settled_at = now(), dead_letter_reason = 'refused'
        where id = $1`,
      [id],
    )
    await eventually(() => expect(published.map(({ headers }) => headers.ce_id)).toContain(`${id}.1`))
    expect(published).toHaveLength(451)
  })
})
