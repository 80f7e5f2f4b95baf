import type { PlanProgress } from '../engines/tensorrt/ensure-plans.ts'
import { toDuration } from './progress-bar.ts'

/** 'engine 1 of 3: building, … 40 %, 2 min left' */
export function formatPlanProgress({ plan, plans, stage, phase, ratio, remainingMs }: PlanProgress): string {
  const which = plans === 1 ? '' : `engine ${plan} of ${plans}: `
  const what = {
    wait: `waiting for ${phase ?? ''}, which builds it`,
    export: 'exporting ONNX',
    parse: 'parsing ONNX',
    build: `building, ${phase ?? ''}`,
    check: 'checking',
    write: 'writing',
  }[stage]
  const share = ratio === undefined ? '' : ` ${Math.floor(ratio * 100)} %`
  const left = remainingMs === undefined ? '' : `, ${toDuration(remainingMs / 1000)} left`
  return `${which}${what}${share}${left}`
}
