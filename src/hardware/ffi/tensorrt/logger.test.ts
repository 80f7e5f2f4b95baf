import { expect, it } from 'vitest'
import { describeTensorrt } from '../../../../test/fakes/describe-tensorrt.ts'
import { Builder } from './builder.ts'
import type { Severity } from './logger.ts'

describeTensorrt('the logger', (made) => {
  it.each([
    ['error', []],
    ['warning', ['a weight is subnormal']],
    ['verbose', ['trying a tactic', '[MemUsageChange] building', 'a weight is subnormal']],
  ] as const)(
    'lets a listener of %s hear what it asked for, until it leaves',
    async (least: Severity, texts) => {
      const { tensorrt } = made()
      using builder = new Builder(tensorrt)
      using network = builder.createNetwork()
      using config = builder.createConfig()
      const heard: string[] = []
      const throwing = tensorrt.logger.listen(() => {
        throw new Error('a listener that throws')
      }, 'verbose')
      const listener = tensorrt.logger.listen(({ text }) => heard.push(text), least)
      using plan = await builder.build(network, config)
      listener[Symbol.dispose]()
      throwing[Symbol.dispose]()
      using again = await builder.build(network, config)
      expect([heard, plan.isFreed, again.isFreed]).toEqual([texts, false, false])
    },
  )
})
