import { Tabs } from '@base-ui/react/tabs';
import type { ReactNode } from 'react';
import type { Options } from './choice.js';
import { useInMiddle } from './scroll-aside.js';

interface TabListProps {
  readonly label: string;
  readonly tabs: Options;
  readonly value: string;
  readonly onChange: (value: string) => void;
  /** The part that is chosen. */
  readonly children: ReactNode;
}

export function TabList({ label, tabs, value, onChange, children }: TabListProps): ReactNode {
  const list = useInMiddle<HTMLDivElement>('[aria-selected="true"]', value);
  return (
    <Tabs.Root value={value} onValueChange={(next) => onChange(String(next))} className="stack loose">
      <Tabs.List ref={list} className="tabs" aria-label={label}>
        {tabs.map(([one, text]) => (
          <Tabs.Tab key={one} value={one}>
            {text}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      <Tabs.Panel value={value} className="stack loose">
        {children}
      </Tabs.Panel>
    </Tabs.Root>
  );
}
