import { describe, expect, it } from 'vitest'
import { keepFixed } from './keep-fixed.ts'
import { loadConfig } from './load.ts'

describe('keepFixed', () => {
  it('keeps and names what needs a restart, takes the rest', () => {
    const current = loadConfig({ flags: { port: 1, apiKey: 'a', corsOrigins: '*', maxInputs: 5 } })
    const next = loadConfig({ flags: { port: 2, model: './other', apiKey: 'b', maxInputs: 6 } })
    const { config, kept } = keepFixed(current, next)
    expect(kept.toSorted()).toEqual(['corsOrigins', 'port'])
    expect(config).toEqual({ ...next, port: 1, corsOrigins: '*' })
    expect(Object.isFrozen(config)).toBe(true)
  })

  it('changes the files of a certificate, but not between HTTP and HTTPS', () => {
    const plain = loadConfig()
    const first = loadConfig({ flags: { tlsCert: 'a.crt', tlsKey: 'a.key' } })
    const second = loadConfig({ flags: { tlsCert: 'b.crt', tlsKey: 'b.key' } })
    expect(keepFixed(first, second)).toEqual({ config: second, kept: [] })
    expect(keepFixed(plain, first)).toEqual({ config: plain, kept: ['tlsCert', 'tlsKey'] })
    expect(keepFixed(first, plain)).toEqual({ config: first, kept: ['tlsCert', 'tlsKey'] })
  })
})
