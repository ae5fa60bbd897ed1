import type { ReactNode } from 'react';
import { AreaField, SelectField, TextField } from '../../design/field.js';
import type { Listener } from '../../session/shapes.js';
import { t, type Key } from '../../words/words.js';
import type { Auth, Draft } from './draft.js';
import type { FieldsProps } from './fields-props.js';

interface CredentialFieldsProps extends FieldsProps {
  /** `null`: a new listener. */
  readonly before: Listener | null;
}

/** What the receiving server asks for besides the signature. Secret values are never shown again. */
export function CredentialFields(props: CredentialFieldsProps): ReactNode {
  return (
    <div className="stack">
      <AuthFields {...props} />
      <TlsFields {...props} />
    </div>
  );
}

type FieldOf = readonly [name: string, label: Key, kind?: 'secret' | 'optional'];

const AUTH_FIELDS: Readonly<Record<Auth['type'], readonly FieldOf[]>> = {
  headers: [
    ['name', 'editor.auth.header'],
    ['value', 'editor.auth.header-value', 'secret'],
  ],
  basic: [
    ['username', 'editor.auth.username'],
    ['password', 'editor.auth.password', 'secret'],
  ],
  bearer: [['token', 'editor.auth.token', 'secret']],
  oauth2: [
    ['tokenUrl', 'editor.auth.token-url'],
    ['clientId', 'editor.auth.client-id'],
    ['clientSecret', 'editor.auth.client-secret', 'secret'],
    ['scope', 'editor.auth.scope', 'optional'],
    ['audience', 'editor.auth.audience', 'optional'],
  ],
};

function AuthFields({ draft, change, errorOf, before }: CredentialFieldsProps): ReactNode {
  const { type, fields } = draft.auth;
  const kinds = Object.keys(AUTH_FIELDS) as Auth['type'][];
  const given = type === 'keep' || type === 'none' ? [] : AUTH_FIELDS[type];
  return (
    <div className="stack">
      <SelectField
        label={t('listener.auth')}
        hint={t('editor.auth.hint')}
        error={errorOf('auth')}
        value={type}
        options={[
          ...(before?.auth
            ? [['keep', t('editor.keep', { what: t(`editor.auth.${before.auth.type}`) })] as const]
            : []),
          ['none', t('app.none')],
          ...kinds.map((one) => [one, t(`editor.auth.${one}`)] as const),
        ]}
        onChange={(value) => change({ auth: { type: value as Draft['auth']['type'], fields: {} } })}
      />
      {given.length > 0 && (
        <div className="field-grid narrow">
          {given.map(([name, label, kind]) => (
            <TextField
              key={name}
              label={t(label)}
              isCode
              type={kind === 'secret' ? 'password' : 'text'}
              autoComplete={kind === 'secret' ? 'new-password' : 'off'}
              required={kind !== 'optional'}
              hint={kind === 'optional' ? t('editor.optional') : undefined}
              value={fields[name] ?? ''}
              onChange={(value) => change({ auth: { type, fields: { ...fields, [name]: value } } })}
            />
          ))}
        </div>
      )}
    </div>
  );
}

function TlsFields({ draft, change, errorOf, before }: CredentialFieldsProps): ReactNode {
  const { type, fields } = draft.tls;
  const set = (name: string) => (value: string) => change({ tls: { type, fields: { ...fields, [name]: value } } });
  const subjects = [before?.tls?.certificate, ...(before?.tls?.ca ?? [])].flatMap((one) => (one ? [one.subject] : []));
  return (
    <div className="stack">
      <SelectField
        label={t('editor.tls')}
        hint={t('editor.tls.hint')}
        error={errorOf('tls')}
        value={type}
        options={[
          ...(before?.tls ? [['keep', t('editor.keep', { what: subjects.join(', ') })] as const] : []),
          ['none', t('editor.tls.none')],
          ['set', t('editor.tls.set')],
        ]}
        onChange={(value) => change({ tls: { type: value as Draft['tls']['type'], fields: {} } })}
      />
      {type === 'set' && (
        <>
          <AreaField
            label={t('editor.tls.cert')}
            hint={t('editor.optional')}
            placeholder="-----BEGIN CERTIFICATE-----"
            value={fields['cert'] ?? ''}
            onChange={set('cert')}
          />
          <AreaField
            label={t('editor.tls.key')}
            hint={t('editor.tls.key.hint')}
            placeholder="-----BEGIN PRIVATE KEY-----"
            value={fields['key'] ?? ''}
            onChange={set('key')}
          />
          <TextField
            label={t('editor.tls.passphrase')}
            hint={t('editor.optional')}
            type="password"
            autoComplete="new-password"
            value={fields['passphrase'] ?? ''}
            onChange={set('passphrase')}
          />
          <AreaField
            label={t('editor.tls.ca')}
            hint={t('editor.optional')}
            placeholder="-----BEGIN CERTIFICATE-----"
            value={fields['ca'] ?? ''}
            onChange={set('ca')}
          />
        </>
      )}
    </div>
  );
}
