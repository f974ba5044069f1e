import { hash } from 'node:crypto'
import { eventIdOf, type GivenEventId, type Issuer } from '@curfew/domain'
import { expect, test } from 'vitest'
import { pileUp, registerQuietly } from '../integration/dead-letters-support.ts'
import { eventually, ISS, openCurfew } from '../support/curfew.ts'
import { describeWithKafka, uniquePrefix } from '../support/kafka.ts'
import { listen, openPublisher } from '../support/kafka-listener.ts'
import { openRelyingParty } from '../support/relying-party.ts'

// Goal: the topic gets the outcome of every logout, in the trace of its request, and every notification for operators.
// Method: a real broker, a whole pipeline, and an independent reader.

const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'

await describeWithKafka('outcomes', (brokers) => {
  test('acknowledgements, dead letters and notifications are published', async () => {
    const prefix = uniquePrefix()
    const publisher = openPublisher(brokers, prefix)
    // The check creates the topics.
    await publisher.check()
    await using curfew = await openCurfew({
      bookkeepers: 2,
      publisher,
      notifying: { webhookScheduleMs: [], deadLetterWindowMs: 1, breakerQuietMs: 60_000, outcomesLagMs: 0 },
    })
    await using shop = await openRelyingParty(curfew, { clientId: 'shop' })
    const begun = () => curfew.db.query('select from outcomes_published')
    await eventually(async () => expect((await begun()).rows).toHaveLength(1))
    const posted = await curfew.call(
      'POST',
      '/v1/logout-events',
      { iss: ISS, sub: 'alice', sid: 'session-1', reason: 'user' },
      { traceparent: TRACEPARENT },
    )
    const { id: eventId } = (await posted.json()) as { id: string }
    await shop.told(1)
    await registerQuietly(curfew.call, ['wiki'])
    const [dead = ''] = await pileUp(curfew.db, { clientId: 'wiki', count: 1, reason: 'refused' })

    const records = await listen(brokers, 'outcomes', prefix)
    await eventually(() => expect(records).toHaveLength(3))
    const ofState = (state: string) => records.find(({ value }) => value.state === state)

    const acknowledged = ofState('acknowledged')
    expect(acknowledged).toEqual({
      // The stored id of the event: the given id is unique only within its issuer.
      key: eventIdOf(ISS as Issuer, eventId as GivenEventId, (text) => hash('sha256', text)),
      headers: {
        ce_specversion: '1.0',
        ce_id: `${acknowledged?.value.delivery_id}.0`,
        ce_source: '/v1/issuers/main/relying-parties/shop',
        ce_type: 'curfew.delivery.settled.v1',
        ce_time: acknowledged?.value.settled_at,
        'content-type': 'application/json',
        traceparent: expect.stringContaining('4bf92f3577b34da6a3ce929d0e0e4736'),
      },
      value: {
        delivery_id: expect.any(String),
        event_id: eventId,
        issuer: 'main',
        iss: ISS,
        client_id: 'shop',
        channel: 'backchannel',
        sub: 'alice',
        sid: 'session-1',
        scope: 'session',
        reason: 'user',
        lane: 'interactive',
        state: 'acknowledged',
        level: 'done',
        dead_letter_reason: null,
        attempts: 1,
        accepted_at: expect.stringMatching(/Z$/),
        settled_at: expect.stringMatching(/Z$/),
        elapsed_ms: expect.any(Number),
        generation: 0,
      },
    })
    expect(ofState('dead_lettered')).toMatchObject({
      headers: { ce_id: `${dead}.0`, ce_type: 'curfew.delivery.settled.v1' },
      value: { delivery_id: dead, client_id: 'wiki', dead_letter_reason: 'refused', level: null },
    })
    const { rows } = await curfew.db.query<{ id: string }>('select id from notifications')
    expect(records.find(({ value }) => value.type !== undefined)).toEqual({
      key: 'main',
      headers: {
        ce_specversion: '1.0',
        ce_id: rows[0]?.id,
        ce_source: '/v1/issuers/main',
        ce_type: 'curfew.delivery.dead_lettered.v1',
        ce_time: expect.stringMatching(/Z$/),
        'content-type': 'application/json',
      },
      value: {
        type: 'delivery.dead_lettered',
        timestamp: expect.stringMatching(/Z$/),
        data: expect.objectContaining({ issuer: 'main', client_id: 'wiki', count: 1 }),
      },
    })
  })
})
