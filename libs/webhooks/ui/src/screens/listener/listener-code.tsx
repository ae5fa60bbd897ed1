import { useState, type ReactNode } from 'react';
import { Segments } from '../../design/choice.js';
import { Code } from '../../design/code.js';
import { Card } from '../../design/page.js';
import type { Listener } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import { RECEIVERS } from './receiver-code.js';

/** How a receiver checks the signature. */
export function ListenerCode({ listener }: { readonly listener: Listener }): ReactNode {
  const [name, setName] = useState('Node.js');
  const code = RECEIVERS.find(([one]) => one === name)?.[1] ?? '';
  const isStandard = listener.schemes.includes('standard');
  return (
    <Card title={t('code.title')}>
      <div className="stack">
        <p className="secondary">
          {isStandard ? t('code.text') : t('code.other', { schemes: listener.schemes.join(', ') })}
        </p>
        {isStandard && (
          <>
            <Segments
              label={t('code.language')}
              value={name}
              options={RECEIVERS.map(([one]) => [one, one])}
              onChange={setName}
            />
            <Code text={code} label={name} isWrapped={false} />
          </>
        )}
      </div>
    </Card>
  );
}
