import { createContext, useContext } from 'react';
import type { OperationTypes } from 'nestjs-entity-webhooks/client';

type Answer = OperationTypes['getMe']['answer'];

/** Who uses the page. */
export type Me = Answer & {
  /** Groups of routes that this API has; absent from older ones. */
  readonly features?: readonly string[];
};

export type Capability = Answer['can'][number] | 'stats:read' | 'system:read' | 'system:write' | 'erase';

export const MeContext = createContext<Me | null>(null);

export function useMe(): Me {
  const me = useContext(MeContext);
  if (!me) throw new Error('Nobody is logged in.');
  return me;
}

export function useCan(): (capability: Capability) => boolean {
  const { can } = useMe();
  return (capability) => (can as readonly string[]).includes(capability);
}
