import { expect, it } from 'vitest'
import { loadConfig } from '../../../config/load.ts'
import { toTracesUrl } from './tracer-provider.ts'

it.each([
  ['http://127.0.0.1:4318', 'http://127.0.0.1:4318/v1/traces'],
  ['http://127.0.0.1:4318/', 'http://127.0.0.1:4318/v1/traces'],
  ['http://127.0.0.1:4318/v1/traces', 'http://127.0.0.1:4318/v1/traces'],
  ['https://gateway.example/otlp', 'https://gateway.example/otlp/v1/traces'],
  ['https://gateway.example/otlp/?tenant=a', 'https://gateway.example/otlp/v1/traces?tenant=a'],
])('sends to the traces path below %s', (endpoint, url) => {
  expect(toTracesUrl(endpoint)).toBe(url)
})

it("reads OpenTelemetry's own variables", () => {
  const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector:4318', OTEL_SERVICE_NAME: 'search' }
  expect(loadConfig({ environment })).toMatchObject({
    otlpEndpoint: 'http://collector:4318',
    otlpServiceName: 'search',
  })
})
