import type { ReactNode } from 'react';
import { Card } from '../../design/page.js';
import { Failed, Skeleton } from '../../design/states.js';
import type { Loaded } from '../../session/use-loaded.js';

interface LoadedPartProps<T> {
  readonly loaded: Loaded<T>;
  readonly lines: number;
  readonly children: (data: T) => ReactNode;
}

/** A part of a screen that loads by itself. */
export function LoadedPart<T>({ loaded: { data, error, reload }, lines, children }: LoadedPartProps<T>): ReactNode {
  if (data !== undefined) return children(data);
  return <Card>{error === undefined ? <Skeleton lines={lines} /> : <Failed error={error} retry={reload} />}</Card>;
}
