import { createLog } from '@curfew/runtime'
import { describe, expect, test } from 'vitest'
import { createLedgerClock } from './ledger-clock.ts'

// Goal: a wrong clock on one machine decides nothing. Method: the test drives both clocks.

const NOW_MS = Date.UTC(2026, 10, 29)
const HOUR_MS = 3_600_000

/** A clock on a machine that is `aheadMs` ahead of the ledger. */
function open(aheadMs: number) {
  const machine = { aheadMs, monotonicMs: 1_000 }
  const written: Record<string, unknown>[] = []
  const log = createLog({
    service: 'test',
    level: 'info',
    destination: { write: (line) => void written.push(JSON.parse(line)) },
  })
  const ledgerMs = () => NOW_MS + machine.monotonicMs
  const clock = createLedgerClock({
    log,
    wallMs: () => ledgerMs() + machine.aheadMs,
    monotonicMs: () => machine.monotonicMs,
  })
  return {
    clock,
    machine,
    written,
    ledgerMs,
    /** A heartbeat with a round trip of `tripMs`, answered in the middle. */
    beat(tripMs = 2) {
      const sentMs = machine.monotonicMs
      machine.monotonicMs += tripMs / 2
      const ledgerNow = new Date(ledgerMs())
      machine.monotonicMs += tripMs / 2
      clock.set(ledgerNow, { sentMs, receivedMs: machine.monotonicMs })
    },
  }
}

describe('the ledger clock', () => {
  test.each([0, 2 * HOUR_MS, -2 * HOUR_MS])(
    'shows the ledger’s time on a machine that is %i ms ahead',
    (aheadMs) => {
      const { clock, machine, beat, ledgerMs } = open(aheadMs)
      beat()
      machine.monotonicMs += 10_000
      expect(clock.now().getTime()).toBe(ledgerMs())
    },
  )

  test('does not jump when the machine’s clock is set', () => {
    const { clock, machine, beat, ledgerMs } = open(0)
    beat()
    machine.aheadMs = HOUR_MS
    machine.monotonicMs += 1
    expect(clock.now().getTime()).toBe(ledgerMs())
  })

  test.each([
    [59_000, true],
    [61_000, false],
    [-59_000, true],
    [-61_000, false],
    [2 * HOUR_MS, false],
  ])('on a machine that is %i ms ahead, agrees is %s', (aheadMs, agrees) => {
    const { clock, beat } = open(aheadMs)
    beat()
    expect(clock.agrees()).toBe(agrees)
  })

  test('agrees again as soon as the machine’s clock is corrected', () => {
    const { clock, machine, beat, written } = open(HOUR_MS)
    beat()
    machine.aheadMs = 0
    beat()
    expect(clock.agrees()).toBe(true)
    expect(written.map(({ event, level }) => [event, level])).toEqual([
      ['clock.differs', 'error'],
      ['clock.agrees', 'info'],
    ])
  })

  test('logs once that the clocks differ by seconds', () => {
    const { beat, written } = open(6_000)
    for (let beats = 0; beats < 3; beats++) beat()
    expect(written).toMatchObject([{ event: 'clock.differs', level: 'warn', ahead_ms: 5_999 }])
  })

  test('does not mistake a long round trip for a difference', () => {
    const { clock, beat, written } = open(0)
    beat(120_000)
    expect(clock.agrees()).toBe(true)
    expect(written).toEqual([])
  })
})
