import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type Binding,
  type LiveSession,
  type LogoutEvent,
  type Names,
  narrowingOf,
  type OwedDelivery,
  plan,
  type SessionIndexUse,
  undeliverable,
} from '@curfew/domain'
import { describe, expect, test } from 'vitest'

// Goal: the table in docs/concepts/session-index.md matches the plan of a logout. Method: each cell of the table is a test.

const PAGE = readFileSync(join(import.meta.dirname, '../docs/concepts/session-index.md'), 'utf8')
const digest = (text: string) => hash('sha256', text)
const at = (minute: number) => new Date(Date.UTC(2026, 10, 21, 12, minute))

/** The rows of the table whose first header is `session_index`, as cells without their markup. */
function readTable(): readonly (readonly string[])[] {
  const lines = PAGE.split('\n')
  const head = lines.findIndex((line) => /^\| `session_index` \| `scope`/.test(line))
  const end = lines.findIndex((line, index) => index > head && !line.startsWith('|'))
  return lines.slice(head, end).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.replaceAll('`', '').trim()),
  )
}

const [HEADERS = [], , ...ROWS] = readTable()
const HELD: Readonly<Record<string, readonly string[]>> = {
  'no session': [],
  'older only': ['old-1', 'old-2'],
  'older and later': ['old-1', 'old-2', 'later'],
  'later only': ['later'],
}
const TAKES: Readonly<Record<string, readonly Names[]>> = {
  'sub and sid': ['either'],
  'sub only': ['subject'],
  sub: ['either', 'subject'],
  'requires a sid': ['session'],
  any: ['either', 'subject', 'session'],
}

const sessionOf = (clientId: string, sid: string): LiveSession =>
  ({
    ...{ sub: 'alice', clientId, sid, device: 'phone' },
    ...{ startedAt: at(sid === 'later' ? 20 : 0), startedStated: true, acceptedAt: at(0), expiresAt: at(59) },
  }) as unknown as LiveSession
const eventOf = (scope: string) =>
  ({
    ...{ id: '01938c2e-0000-7000-8000-000000000001', iss: 'https://idp.example', scope, sub: 'alice' },
    ...{ sid: scope === 'session' ? 'the-event' : null, device: 'phone' },
    ...{ initiator: null, includeInitiator: false, clients: null, lane: 'interactive', reason: null },
    ...{ occurredAt: at(10), acceptedAt: at(10) },
  }) as unknown as LogoutEvent
const bindingOf = (names: Names) =>
  ({
    ...{ id: 1, clientId: 'rp', names, widens: true },
    ...{ fallbackFor: null, disabledReason: null },
    offer: null,
  }) as unknown as Binding

/** The sessions from the index: of the subject, or of the event's sid. Another RP has one too, so the subject is known. */
function knownOf(scope: string, sids: readonly string[]): readonly LiveSession[] {
  const held = scope === 'session' && sids.length > 0 ? ['the-event'] : sids
  return [...held.map((sid) => sessionOf('rp', sid)), sessionOf('another', 'the-event')]
}

/** The deliveries to the RP, in the words of the table. */
function deliveredOf(owed: readonly OwedDelivery[], binding: Binding): string {
  const [first] = owed
  if (first === undefined) return 'nothing'
  const { sid } = first.delivery
  if (undeliverable(binding, first.delivery) !== null) return 'sid_required'
  if (first.doubtful) return 'later_session'
  if (sid === null) return owed.length === 1 ? 'the subject' : 'the subject, several times'
  if (sid === 'the-event') return "the event's"
  const sids = owed.map(({ delivery }) => delivery.sid).join()
  return sids === 'old-1,old-2' ? 'each older sid' : `the sids ${sids}`
}

const CELLS = ROWS.flatMap((row) =>
  Object.keys(HELD).map((held) => {
    const [use = '', scope = '', takes = ''] = row
    return { use, scope, takes, held, says: row[HEADERS.indexOf(held)] ?? '' }
  }),
)

describe('the table of sessions that a logout ends', () => {
  test('has every mode, scope and kind of relying party', () => {
    const kinds = TAKES.any?.length
    for (const use of ['partial', 'complete', 'off'])
      for (const scope of ['subject', 'device', 'session']) {
        const rows = ROWS.filter(([mode, of]) => mode === use && of === scope)
        expect([use, scope, rows.flatMap(([, , takes]) => TAKES[takes ?? ''] ?? []).length]).toEqual([
          use,
          scope,
          kinds,
        ])
      }
  })

  test.each(CELLS)(
    'matches the plan: $use, $scope, $takes, $held: $says',
    ({ use, scope, takes, held, says }) => {
      const sessions = knownOf(scope, HELD[held] ?? [])
      for (const kind of TAKES[takes] ?? []) {
        const binding = bindingOf(kind)
        const issuer = { bindings: [binding], sessionIndex: use as SessionIndexUse }
        const { deliveries } = plan(eventOf(scope), issuer, { kind: 'known', sessions }, digest)
        expect([kind, deliveredOf(deliveries, binding)]).toEqual([kind, says])
      }
    },
  )

  const subject = CELLS.filter(({ use, scope, takes }) => {
    return use === 'partial' && scope === 'subject' && takes !== 'requires a sid'
  })
  test.each(subject)(
    'matches the plan before each further attempt: $takes, $held: $says',
    ({ takes, held, says }) => {
      const sessions = (HELD[held] ?? []).map((sid) => sessionOf('rp', sid))
      for (const kind of TAKES[takes] ?? []) {
        const binding = bindingOf(kind)
        const narrowing = narrowingOf(eventOf('subject'), binding, sessions, digest)
        const delivered =
          narrowing.kind === 'sent'
            ? 'the subject'
            : narrowing.owed.length === 0
              ? 'later_session'
              : deliveredOf(narrowing.owed, binding)
        expect([kind, delivered]).toEqual([kind, says])
      }
    },
  )
})
