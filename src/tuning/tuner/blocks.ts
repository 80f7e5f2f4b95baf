/** What a report is made of, for Markdown and HTML alike. */
export type Block =
  | { readonly kind: 'heading'; readonly text: string }
  | { readonly kind: 'text'; readonly text: string }
  | {
      readonly kind: 'table'
      readonly head: readonly string[]
      readonly rows: readonly (readonly string[])[]
    }
  /** For HTML alone. */
  | { readonly kind: 'picture'; readonly title: string; readonly svg: string }
  | { readonly kind: 'bars'; readonly title: string; readonly bars: readonly Bar[] }
  | {
      readonly kind: 'curves'
      readonly title: string
      readonly x: string
      readonly y: string
      readonly curves: readonly Curve[]
    }

export interface Bar {
  readonly label: string
  /** Where it begins; default 0. */
  readonly from?: number
  readonly value: number
  readonly text: string
  /** Drawn grey: what was before. */
  readonly isBefore?: boolean
}

export interface Curve {
  readonly label: string
  readonly isBefore?: boolean
  readonly points: readonly { readonly x: number; readonly y: number; readonly label: string }[]
}
