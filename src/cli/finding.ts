/** One line of doctor's report. */
export interface Finding {
  readonly level: 'ok' | 'note' | 'fail'
  readonly subject: string
  readonly text: string
  readonly fix?: string
}
