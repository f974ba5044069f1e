import { deliveryLedgerContract } from './delivery-ledger.contract.ts'
import { fallbackContract } from './delivery-ledger-fallbacks.contract.ts'
import { openMemoryHarness } from './delivery-ledger-harness.ts'
import { offerContract } from './delivery-ledger-offers.contract.ts'
import { relayContract } from './delivery-ledger-relay.contract.ts'
import { sessionIndexContract } from './delivery-ledger-sessions.contract.ts'
import { subjectContract } from './delivery-ledger-subjects.contract.ts'

deliveryLedgerContract('the memory ledger', openMemoryHarness)
sessionIndexContract('the memory ledger', openMemoryHarness)
fallbackContract('the memory ledger', openMemoryHarness)
offerContract('the memory ledger', openMemoryHarness)
relayContract('the memory ledger', openMemoryHarness)
subjectContract('the memory ledger', openMemoryHarness)
