import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Dashboard, Panel, RowPanel } from '@grafana/schema'
import { describe, expect, test } from 'vitest'
import { DASHBOARDS } from '../../deploy/grafana/dashboards.ts'
import { DATASOURCE } from '../../deploy/grafana/look.ts'

// Goal: Grafana loads the files in deploy/grafana/dashboards. `npx vitest run test/dashboards/files.test.ts -u` writes them again.
// Method: compares them with their source, which is checked against Grafana's types, and checks the rules that no type says.

const FOLDER = fileURLToPath(new URL('../../deploy/grafana/dashboards/', import.meta.url))
const fileOf = ({ uid }: Dashboard) => `${uid}.json`
const panelsOf = ({ panels = [] }: Dashboard) => panels as readonly (Panel | RowPanel)[]
/** Everything that Grafana fills in itself. */
const BUILT_IN = /^(?:__|datasource$)/

describe.each(DASHBOARDS.map((dashboard) => [String(dashboard.uid), dashboard] as const))(
  '%s',
  (_, dashboard) => {
    test('is written as its source says', async () => {
      await expect(`${JSON.stringify(dashboard, null, 2)}\n`).toMatchFileSnapshot(FOLDER + fileOf(dashboard))
    })

    test('has panels with an id of their own, which do not overlap', () => {
      const panels = panelsOf(dashboard)
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
      const cells = panels.flatMap(({ gridPos: { x, y, w, h } = { x: -1, y: -1, w: 0, h: 0 }, title }) => {
        expect([title, x >= 0 && w > 0 && x + w <= 24 && h > 0]).toEqual([title, true])
        return Array.from({ length: w * h }, (_, n) => `${x + (n % w)},${y + Math.floor(n / w)}`)
      })
      expect(new Set(cells).size).toBe(cells.length)
    })

    test('says of every panel what it shows, and asks the chosen data source', () => {
      const panels = panelsOf(dashboard).filter(
        ({ type }) => type !== 'row' && type !== 'text',
      ) as readonly Panel[]
      expect(panels.length).toBeGreaterThan(5)
      for (const { title, description = '', datasource, targets = [] } of panels) {
        expect([title, description.length > 10, datasource?.uid]).toEqual([title, true, DATASOURCE.uid])
        expect([title, targets.length > 0]).toEqual([title, true])
        expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length)
        for (const target of targets)
          expect(target).toMatchObject({
            datasource: { uid: DATASOURCE.uid },
            expr: expect.stringMatching(/\w/),
          })
      }
    })

    test('uses variables that it has', () => {
      const variables = (dashboard.templating?.list ?? []).map(({ name }) => name)
      const used = JSON.stringify(dashboard).matchAll(/\$\{?([A-Za-z_]\w*)/g)
      const unknown = [...used].map(([, name = '']) => name).filter((name) => !BUILT_IN.test(name))
      expect([...new Set(unknown)].filter((name) => !variables.includes(name))).toEqual([])
      // A variable that no panel uses misleads its reader.
      expect(variables.filter((name) => name !== 'datasource' && !unknown.includes(name))).toEqual([])
    })

    test('leads to dashboards that exist', () => {
      const uids = DASHBOARDS.map(({ uid }) => uid)
      const links = [...JSON.stringify(dashboard).matchAll(/"\/d\/([\w-]+)/g)].map(([, uid]) => uid)
      expect(links.filter((uid) => !uids.includes(uid))).toEqual([])
    })
  },
)

test('the folder has no other files, and no two dashboards have one title', () => {
  expect(readdirSync(FOLDER).toSorted()).toEqual(DASHBOARDS.map(fileOf).toSorted())
  expect(new Set(DASHBOARDS.map(({ title }) => title)).size).toBe(DASHBOARDS.length)
})
