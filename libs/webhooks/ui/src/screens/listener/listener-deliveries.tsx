import type { ReactNode } from 'react';
import { changeQuery, usePlace } from '../../app/router.js';
import { Segments } from '../../design/choice.js';
import { t, type Key } from '../../words/words.js';
import { DeliveryTable } from '../deliveries/deliveries-screen.js';
import { STATES } from '../deliveries/filters.js';
import { useDeliveries } from '../deliveries/use-deliveries.js';

export function ListenerDeliveries({ listenerId }: { readonly listenerId: string }): ReactNode {
  const state = usePlace().query.get('state') ?? '';
  const filters = { listenerId, ...(state && { state }) };
  const list = useDeliveries(filters, true);
  return (
    <>
      <Segments
        label={t('column.state')}
        value={state}
        options={[['', t('filter.all')], ...STATES.map((one) => [one, t(`state.${one}` as Key)] as const)]}
        onChange={(value) => changeQuery({ state: value })}
      />
      <DeliveryTable list={list} filters={filters} />
    </>
  );
}
