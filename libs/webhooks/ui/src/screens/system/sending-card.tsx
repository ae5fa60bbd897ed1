import { useState, type ReactNode } from 'react';
import { visible } from '../../design/code.js';
import { ConfirmButton } from '../../design/confirm.js';
import { Icon } from '../../design/icon.js';
import { done } from '../../design/toast.js';
import { useAction } from '../../design/use-action.js';
import { api } from '../../session/api.js';
import { useCan } from '../../session/session.js';
import type { Sending } from '../../session/shapes.js';
import { t } from '../../words/words.js';
import { whoAndWhen } from '../overview/paused-banner.js';

const MAX_REASON = 500;

interface SendingCardProps {
  readonly sending: Sending;
  readonly reload: () => void;
}

/** Whether webhooks are sent, and the switch for all processes. */
export function SendingCard({ sending, reload }: SendingCardProps): ReactNode {
  const can = useCan();
  const { paused, reason } = sending;
  return (
    <section className={paused ? 'card sending is-paused' : 'card sending'} aria-live="polite">
      <span className="sending-mark">
        <Icon name={paused ? 'pause' : 'play'} size={22} />
      </span>
      <div className="grow">
        <h2>{t(paused ? 'system.sending.off' : 'system.sending.on')}</h2>
        {paused && reason !== null && <p className="break">{visible(reason)}</p>}
        <p className="secondary">
          {paused ? `${whoAndWhen(sending)} ${t('system.sending.off.text')}` : t('system.sending.on.text')}
        </p>
      </div>
      {can('system:write') && (paused ? <Resume reload={reload} /> : <Pause reload={reload} />)}
    </section>
  );
}

function useSending(reload: () => void): (body: { paused: boolean; reason?: string }) => Promise<void> {
  const set = async (body: { paused: boolean; reason?: string }) => {
    await api.setSending({ body });
    done(t(body.paused ? 'system.paused' : 'system.resumed'));
  };
  return useAction(t('system.not-changed'), set, reload).run;
}

function Pause({ reload }: { readonly reload: () => void }): ReactNode {
  const [reason, setReason] = useState('');
  const set = useSending(reload);
  const given = reason.trim();
  return (
    <ConfirmButton
      title={t('system.pause.title')}
      text={t('system.pause.text')}
      label={t('system.pause')}
      button={{ kind: 'danger-quiet', icon: 'pause' }}
      isDangerous
      run={() => set({ paused: true, ...(given !== '' && { reason: given }) })}
    >
      <div className="field popup-field">
        <label htmlFor="reason">{t('system.pause.reason')}</label>
        <input
          id="reason"
          className="input"
          maxLength={MAX_REASON}
          autoComplete="off"
          aria-describedby="reason-hint"
          value={reason}
          onChange={(event) => setReason(event.target.value)}
        />
        <span id="reason-hint" className="hint">
          {t('system.pause.reason.hint')}
        </span>
      </div>
    </ConfirmButton>
  );
}

function Resume({ reload }: { readonly reload: () => void }): ReactNode {
  const set = useSending(reload);
  return (
    <ConfirmButton
      title={t('system.resume.title')}
      text={t('system.resume.text')}
      label={t('system.resume')}
      button={{ kind: 'primary', icon: 'play' }}
      run={() => set({ paused: false })}
    />
  );
}
