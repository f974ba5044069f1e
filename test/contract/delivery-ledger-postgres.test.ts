import { deliveryLedgerContract } from './delivery-ledger.contract.ts'
import { openPostgresHarness } from './delivery-ledger-harness.ts'

deliveryLedgerContract('the PostgreSQL ledger', openPostgresHarness)
