import type { Database, Statement } from '@curfew/ledger'

/** A node of an executed plan. */
interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Index Name'?: string
  readonly 'Actual Loops': number
  readonly Plans?: readonly PlanNode[]
}

/** A table, or a partition of one, that a statement scanned. */
export interface Scan {
  /** The kind of the scan, such as `Index Scan`. */
  readonly how: string
  readonly relation: string
  /** The number of scans. */
  readonly times: number
}

/** Wraps a database to record each statement. */
export function recording(db: Database): Database & { readonly statements: readonly Statement[] } {
  const statements: Statement[] = []
  return Object.assign(Object.create(db) as Database, {
    statements,
    query: ((statement: Statement | string, values?: readonly unknown[]) => {
      const given = typeof statement === 'string' ? { text: statement } : statement
      statements.push(values === undefined ? given : { ...given, values })
      return db.query(statement, values)
    }) as Database['query'],
  })
}

/** Wraps a database to record each statement of its transactions. */
export function recordingTransactions(
  db: Database,
): Database & { readonly statements: readonly Statement[] } {
  const statements: Statement[] = []
  const withConnection: Database['withConnection'] = (work) =>
    db.withConnection((connection) =>
      work(
        new Proxy(connection, {
          get(target, name) {
            const member: unknown = Reflect.get(target, name)
            if (typeof member !== 'function') return member
            return (...given: readonly unknown[]) => {
              const [statement] = given
              if (name === 'query' && typeof statement === 'object') statements.push(statement as Statement)
              return Reflect.apply(member, target, given)
            }
          },
        }),
      ),
    )
  return Object.assign(Object.create(db) as Database, { statements, withConnection })
}

/** The scans of a statement when it is executed, with a plan for these values or a generic one. */
export async function scansOf(
  db: Database,
  { text, values = [] }: Statement,
  how: 'custom' | 'generic',
): Promise<readonly Scan[]> {
  return db.withConnection(async (connection) => {
    await connection.query('begin')
    try {
      await connection.query(`set local plan_cache_mode = force_${how}_plan`)
      await connection.query(`prepare explained as ${text}`)
      const given = values.length === 0 ? '' : ` (${values.map(literal).join(', ')})`
      const execute = `execute explained${given}`
      const { rows } = await connection.query(`explain (analyze, timing off, format json) ${execute}`)
      return scansIn(rows[0]?.['QUERY PLAN'][0].Plan as PlanNode)
    } finally {
      await connection.query('rollback')
      await connection.query('deallocate explained')
    }
  })
}

function scansIn(node: PlanNode): readonly Scan[] {
  const relation = node['Relation Name']
  const own =
    relation === undefined || node['Actual Loops'] === 0
      ? []
      : [{ how: node['Node Type'], relation, times: node['Actual Loops'] }]
  return [...own, ...(node.Plans ?? []).flatMap(scansIn)]
}

function literal(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value === 'number') return String(value)
  // Sufficient for texts without quotation marks and backslashes.
  if (Array.isArray(value)) return literal(`{${value.map((each) => `"${each}"`).join(',')}}`)
  return `'${String(value).replaceAll("'", "''")}'`
}
