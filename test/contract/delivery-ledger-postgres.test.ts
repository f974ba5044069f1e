import { deliveryLedgerContract } from './delivery-ledger.contract.ts'
import { fallbackContract } from './delivery-ledger-fallbacks.contract.ts'
import { openPostgresHarness } from './delivery-ledger-harness.ts'
import { offerContract } from './delivery-ledger-offers.contract.ts'
import { relayContract } from './delivery-ledger-relay.contract.ts'
import { sessionIndexContract } from './delivery-ledger-sessions.contract.ts'
import { subjectContract } from './delivery-ledger-subjects.contract.ts'

deliveryLedgerContract('the PostgreSQL ledger', openPostgresHarness)
sessionIndexContract('the PostgreSQL ledger', openPostgresHarness)
fallbackContract('the PostgreSQL ledger', openPostgresHarness)
offerContract('the PostgreSQL ledger', openPostgresHarness)
relayContract('the PostgreSQL ledger', openPostgresHarness)
subjectContract('the PostgreSQL ledger', openPostgresHarness)
