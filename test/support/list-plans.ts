import type { Database, Statement } from '@curfew/ledger'

// Measures the cost of a list: the plans of its statements over many rows, and the number of rows that they read.

/** Reading a whole table with at most this many rows is acceptable. */
const SMALL = 500

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Rows Removed by Filter'?: number
  readonly 'Rows Removed by Index Recheck'?: number
  readonly Plans?: readonly PlanNode[]
}

/** The cost of executing a statement. */
export interface Cost {
  /** Tables with a sequential scan over more than `SMALL` rows. */
  readonly wholeTables: readonly string[]
  /** Rows read by scans of tables and indexes. */
  readonly rowsRead: number
  /** Rows of the largest input of a sort. */
  readonly rowsSorted: number
}

/** Executes a statement, with a plan for these values or a generic one, and measures its cost. */
export async function costOf(db: Database, statement: Statement, how: 'custom' | 'generic'): Promise<Cost> {
  return db.withConnection(async (connection) => {
    await connection.query('begin')
    try {
      await connection.query(`set local plan_cache_mode = force_${how}_plan`)
      await connection.query('set local enable_seqscan = on')
      await connection.query(`prepare explained as ${statement.text}`)
      const values = statement.values ?? []
      const given = values.length === 0 ? '' : ` (${values.map(literal).join(', ')})`
      const { rows } = await connection.query(
        `explain (analyze, timing off, buffers off, format json) execute explained${given}`,
      )
      return costIn(rows[0]?.['QUERY PLAN'][0].Plan as PlanNode)
    } finally {
      await connection.query('rollback')
      await connection.query('deallocate explained')
    }
  })
}

function costIn(node: PlanNode): Cost {
  const children = node.Plans ?? []
  const own = (each: PlanNode) => each['Actual Rows'] * each['Actual Loops']
  const relation = node['Relation Name']
  const removed = (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0)
  const isSort = node['Node Type'].endsWith('Sort')
  const costs = children.map(costIn)
  const ofTable = relation !== undefined && node['Actual Loops'] > 0
  const looked = ofTable ? own(node) + removed * node['Actual Loops'] : 0
  return {
    wholeTables: [
      // A sequential scan of a small partition is fine.
      ...(ofTable && looked > SMALL && node['Node Type'].includes('Seq Scan') ? [relation] : []),
      ...costs.flatMap(({ wholeTables }) => wholeTables),
    ],
    rowsRead: looked + costs.reduce((sum, { rowsRead }) => sum + rowsRead, 0),
    rowsSorted: Math.max(
      0,
      ...(isSort ? children.map((child) => own(child)) : []),
      ...costs.map(({ rowsSorted }) => rowsSorted),
    ),
  }
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'null'
  if (typeof value === 'number') return String(value)
  if (value instanceof Date) return `'${value.toISOString()}'`
  // Sufficient for texts without quotation marks and backslashes.
  if (Array.isArray(value)) return `'{${value.map((each) => `"${each}"`).join(',')}}'`
  return `'${String(value).replaceAll("'", "''")}'`
}
