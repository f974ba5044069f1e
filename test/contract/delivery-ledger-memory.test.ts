import { deliveryLedgerContract } from './delivery-ledger.contract.ts'
import { openMemoryHarness } from './delivery-ledger-harness.ts'

deliveryLedgerContract('the memory ledger', openMemoryHarness)
