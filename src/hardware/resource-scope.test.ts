import { expect, it } from 'vitest'
import { ResourceScope } from './resource-scope.ts'

const resource = (log: string[], name: string, failure?: Error) => ({
  [Symbol.dispose]() {
    log.push(name)
    if (failure !== undefined) throw failure
  },
})

it('frees in reverse order, once', () => {
  const log: string[] = []
  const scope = new ResourceScope()
  scope.adopt(resource(log, 'parent'))
  const gone = scope.adopt(resource(log, 'freed by itself'))
  scope.adopt(resource(log, 'child'))
  scope.release(gone)
  expect(scope.count).toBe(2)
  scope[Symbol.dispose]()
  scope[Symbol.dispose]()
  expect(log).toEqual(['child', 'parent'])
})

it('frees all although one fails, and throws the first failure', () => {
  const log: string[] = []
  const scope = new ResourceScope()
  scope.adopt(resource(log, 'a', new Error('second')))
  scope.adopt(resource(log, 'b', new Error('first')))
  scope.adopt(resource(log, 'c'))
  expect(() => scope[Symbol.dispose]()).toThrow('first')
  expect([log, scope.count]).toEqual([['c', 'b', 'a'], 0])
})
